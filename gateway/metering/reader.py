"""What gateway workers have metered, as the meter reads it: their logs and the requests that they have under way.

Each worker, living or dead, has a spool: a folder of its own with a log of ``UsageEvent`` in segments and a table of
open requests. An offset is a place in the log; it only grows, begins at 0, and stays good when old segments are
dropped. To ship all of it, once:

1. ``look = spool.look()``; 2. ``read`` from the last offset until ``look.end`` is reached, and on if there is more;
3. with those events their new offset, then ``look.watermark``. A request that is in ``watermark.open`` and in an event
of step 2 has ended meanwhile: the event counts. Every other one that was on a replica at ``until_us`` is in ``open``,
and every one that ended before is in an event up to ``look.end``.
4. When ``is_alive`` is false: ``finish()`` (what was under way becomes events with ``cut``), read to ``end``; then the
spool holds nothing back any more, and ``remove`` it when it is shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.home import Home
from models.store.usage import UsageEvent, Watermark

KEPT_S = 600.0


@dataclass(frozen=True, slots=True)
class Batch:
    """``offset``: where to go on. ``lost_bytes``: of the log that could not be read and were passed over (a disk or a
    machine that failed; never after a kill): to be told loudly."""

    events: list[UsageEvent]
    offset: int
    lost_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """``end``: of the log, after ``watermark`` was read. ``finished``: nothing will ever be added to the spool."""

    watermark: Watermark
    end: int
    finished: bool = False


class Spool:
    """Of one worker. Not for use by two processes at once but for ``look`` and ``read``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker = folder.name

    @property
    def is_alive(self) -> bool:
        """Whether its worker has it open. True also where the lock cannot be asked for."""
        raise NotImplementedError

    def look(self) -> Look:
        """Raises SpoolError when it is of another format, OSError."""
        raise NotImplementedError

    def read(self, offset: int, most: int = 10_000) -> Batch:
        """Up to ``most`` events; none: there are no more at present. Raises SpoolError, OSError."""
        raise NotImplementedError

    def finish(self) -> bool:
        """Of a dead worker: what it had under way becomes events of its log. False while it lives.

        May be called again, also after it was killed half-way: each request gets one event. Raises SpoolError, OSError.
        """
        raise NotImplementedError

    def drop(self, before: int, now_unix_s: float, kept_s: float = KEPT_S) -> int:
        """Bytes freed: segments that lie before this offset and were last written so long ago. Raises OSError."""
        raise NotImplementedError

    def remove(self) -> bool:
        """All of it. False while its worker lives or ``finish`` was not called. Raises OSError."""
        raise NotImplementedError


class SpoolError(Exception):
    """A spool that this version cannot read; says which file and why."""


def spools(home: Home) -> list[Spool]:
    """Of all workers of this machine, by name. Raises OSError."""
    raise NotImplementedError
