"""One locustfile per suite; each also runs under plain ``locust -f``, with Locust's own screens."""
