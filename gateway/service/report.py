"""What the supervisor tells of its work: as data, as lines for people, or as lines of JSON for another process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TextIO

import msgspec

EventKind = Literal[
    "note", "starting", "progress", "ready", "died", "failed", "restarting", "stopping", "stopped", "serving"
]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """``seconds`` since the part (or the whole) began what ended now. ``lines``: the end of its log.

    ``data``: the same for machines, where there is more to say than ``text`` does.
    """

    kind: EventKind
    part: str = ""
    text: str = ""
    seconds: float | None = None
    lines: tuple[str, ...] = ()
    data: dict[str, Any] = {}


Report = Callable[[Event], None]


def to_screen(stream: TextIO) -> Report:
    """One line for each event, written at once."""

    def report(event: Event) -> None:
        line = render(event)
        if line is not None:
            print(line, file=stream, flush=True)

    return report


def render(event: Event) -> str | None:
    """The text for people, or None for what does not concern them."""
    took = "" if event.seconds is None else f"{event.seconds:6.1f} s"
    match event.kind:
        case "note" | "serving":
            line = event.text
        case "starting" | "stopping":
            return None
        case "progress":
            line = f"  {event.part:<12} {event.text}"
        case "ready" | "stopped":
            line = f"  {event.part:<12} {event.kind:<9}{took}"
        case "died" | "failed" | "restarting":
            line = f"! {event.part:<12} {event.text}"
    return "\n".join((line, *(f"    | {shown}" for shown in event.lines)))


def to_json_lines(stream: TextIO) -> Report:
    """For another process that shows them; once its reader has gone, nothing more is written."""
    reader_gone = False

    def report(event: Event) -> None:
        nonlocal reader_gone
        if not reader_gone:
            try:
                stream.write(msgspec.json.encode(event).decode() + "\n")
                stream.flush()
            except BrokenPipeError:
                reader_gone = True

    return report


def to_all(*reports: Report) -> Report:
    def report(event: Event) -> None:
        for each in reports:
            each(event)

    return report
