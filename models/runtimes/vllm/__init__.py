"""The runtime for language models: vLLM in one warm process, its weights mapped, packed and verified."""
