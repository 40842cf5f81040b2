"""What the gateway costs, next to its peers, against an engine that costs nothing."""
