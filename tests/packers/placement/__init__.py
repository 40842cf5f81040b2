"""Online placement: clusters, asks, policies."""
