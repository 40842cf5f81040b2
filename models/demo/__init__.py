"""Demo models, made on this machine from fixed seeds: three small chat models, and the embedder that pip brought along."""
