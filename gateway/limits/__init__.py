"""Limits and budgets: reserved before a request runs, settled when it is over, exact over all workers."""
