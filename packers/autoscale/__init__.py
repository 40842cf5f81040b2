"""Autoscaling: how many replicas a model should have. Policies are pure functions; ``registry`` has them by name."""
