"""HTTP in, HTTP out: the OpenAI-compatible endpoint, the admin API and the command line."""
