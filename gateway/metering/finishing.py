"""The end of a dead worker's spool: what it had under way becomes events, all of them at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gateway.metering.frames import Texts
from gateway.metering.layout import COMING, header, log_name
from models.store.usage import UsageEvent


def write_last(folder: Path, number: int, events: list[UsageEvent]) -> None:
    """The log's last segment: there it is as a whole, or not at all. Raises OSError."""
    coming = folder / COMING
    coming.unlink(missing_ok=True)  # what its worker had made for itself
    with coming.open("xb") as file:
        file.write(header())
        for frames in _frames(events):
            file.write(frames)
        file.flush()
        os.fsync(file.fileno())
    coming.rename(folder / log_name(number, last=True))


def _frames(events: list[UsageEvent]) -> Iterator[bytes]:
    texts = Texts()
    for event in events:
        if texts.full:  # the same numbers stand for other texts from then on
            texts = Texts()
        yield texts.frames(event)
