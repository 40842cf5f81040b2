"""The runtime for any Python class: contract, batching, weights, and processes shared by several models."""
