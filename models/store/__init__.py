"""The one shared store: Redis keys, records, client and the embedded server."""
