"""Benchmarks of the policies, on small generated traces."""
