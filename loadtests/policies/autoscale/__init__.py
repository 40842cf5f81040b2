"""Autoscaling policies against the goals A1 and A2: spikes of one model's traffic."""
