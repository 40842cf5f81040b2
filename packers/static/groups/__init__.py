"""Memory and compute at once, tensor-parallel groups on nodes, models that keep apart: packing node by node."""
