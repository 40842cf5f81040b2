"""Demo models, made on this machine from fixed seeds: three chat models, a pretrained embedder, and four small ones
for what is not chat, put together by hand."""
