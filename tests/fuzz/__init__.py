"""Inputs made by machines, for what reads bytes of strangers: hypothesis with every test run, atheris on request."""
