"""How long the first token of a model takes that is stopped, asleep or ready; and the same of a stock vLLM server."""
