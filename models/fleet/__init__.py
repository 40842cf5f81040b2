"""Nodes, GPUs and replicas as Ray actors, behind the Fleet protocol."""
