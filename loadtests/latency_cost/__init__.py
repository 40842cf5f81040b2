"""Measures the figures of docs/latency-cost.md, and writes them into it."""
