"""Defragmentation: bounded moves that empty GPUs, drains of GPUs and nodes, KV caches that shrink and grow, and a
placement score for models that come and go. Pure functions on a ``packers.state.State``, which they leave as it is."""
