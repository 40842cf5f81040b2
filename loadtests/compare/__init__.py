"""``roundhouse loadtest compare``: one suite against several targets, in turns, and one table of what callers felt."""
