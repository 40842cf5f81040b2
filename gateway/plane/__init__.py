"""The data plane: bytes of callers in, bytes of engines out, on uvloop protocols. ``docs/data-plane.md`` draws it."""
