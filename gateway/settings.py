"""What a worker is told about how much to take and how long to wait. Flags and YAML keys follow this one dataclass."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in seconds. Whatever exceeds one is refused or closed, never cut short in silence.

    ``max_body_bytes``: of one request's body as it is read; ``upload_bytes``: where files are taken instead.
    ``head_bytes``: of a request line with its headers. ``request_timeout_s``: head and body must be there by then,
    counted from the first byte. ``idle_timeout_s``: a connection without a request is let go after that, longer than
    common clients keep theirs (5 s in httpx): the one who sends should be the one who lets go.
    ``linger_s``: what still comes in after an early refusal is read for so long, so that the caller sees the answer.
    ``drain_timeout_s``: how long open answers may go on after SIGTERM.
    ``max_connections``: of callers, of one worker; 0 asks the limit on open files for it.
    ``hold_timeout_s``, ``hold_limit``: requests that wait for a place; the limit is per model.
    ``hold_comments_s``: a held stream gets an SSE comment as often; 0: none.
    ``media_hosts``: from which images and the like may be fetched by an engine; none: they come as data: URLs only.
    """

    max_body_bytes: int = 8 * MIB
    upload_bytes: int = 512 * MIB
    head_bytes: int = 32 * KIB
    request_timeout_s: float = 15.0
    idle_timeout_s: float = 75.0
    linger_s: float = 2.0
    drain_timeout_s: float = 30.0
    max_connections: int = 0
    hold_timeout_s: float = 120.0
    hold_limit: int = 1024
    hold_comments_s: float = 0.0
    media_hosts: tuple[str, ...] = ()
