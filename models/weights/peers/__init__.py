"""Weights from other nodes of the cluster: offered, served, fetched and verified like any other source."""
