"""Whose request it is that came through proxies: as far as their word is to be trusted. Pure."""

from __future__ import annotations

from gateway.abuse.networks import Address, Networks, parse_address
from gateway.headers import Headers

HEADER = b"x-forwarded-for"
MOST_HOPS = 32  # what a caller wrote there itself may be long; nobody looks at it


def caller_behind(peer: Address, headers: Headers, trusted: Networks[bool]) -> Address:
    """``peer`` is trusted. Each proxy adds at the right whom it was called by.

    1. From the right, the first that is not trusted is the caller. 2. What is no address ends the search: nobody whom
    we trust has written it. 3. Where all are trusted, it is the one that is farthest away.
    """
    said = b",".join(value for name, value in headers if name == HEADER)
    caller = peer
    if not said:
        return caller
    for entry in reversed(said.rsplit(b",", MOST_HOPS)[-MOST_HOPS:]):
        address = parse_address(_without_port(entry.decode("latin-1").strip()))
        if address is None:  # 2
            return caller
        caller = address
        if not trusted.cover(address):  # 1
            return caller
    return caller  # 3


def _without_port(entry: str) -> str:
    """As some proxies write it: 192.0.2.1:4711, [2001:db8::1]:4711."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    host, colon, _ = entry.partition(":")
    return host if colon and ":" not in entry[len(host) + 1 :] else entry
