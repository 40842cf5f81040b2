"""Residency policies against their goals E1 to E4: ``python -m loadtests.policies.residency``."""
