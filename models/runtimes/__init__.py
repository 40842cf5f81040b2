"""Engines: the launcher, the host that every engine child runs in, and the runtimes (vLLM, torch)."""
