"""Whether this worker has been told to end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Leaving:
    """Set when the server is told to end: whoever follows a log for ever lets go then."""

    now: bool = False
