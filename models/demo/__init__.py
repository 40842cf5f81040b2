"""Demo models, made on this machine from fixed seeds: three small chat models and a pretrained embedder."""
