"""Placement and packing: goals P1 to P7. ``python -m loadtests.policies.packing``."""
