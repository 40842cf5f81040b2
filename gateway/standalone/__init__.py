"""The data plane on its own: models and upstreams from a file, without Ray, controller or Redis.

``docs/standalone.md`` is for those who use it. ``routes_file`` and ``keys_file`` say what may be written, ``table``
makes of it what the gateway goes by, ``reload`` takes up edits, ``app`` puts a worker together.
"""
