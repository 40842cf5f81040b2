"""Benchmarks of the packing policies on public or own traces: placement, residency, autoscaling. No service runs."""
