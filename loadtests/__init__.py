"""Load tests: what the gateway, cold starts and spikes cost in latency, seen from outside."""
