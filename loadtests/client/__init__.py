"""Calls as many at once as one core can follow: no greenlet or thread per stream, one loop over all their sockets."""
