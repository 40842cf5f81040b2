"""Requests as a run's document keeps them: one row each, and all of them as columns.

Times are whole microseconds since the run's beginning; what did not happen is null. In the columns, texts are places in
``names``: a model that comes up ten thousand times is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from loadtests.client.call import Call


class Row(msgspec.Struct, array_like=True):
    """``scheduled_us``: when an open load was to send it, null in a closed one. ``sent_us``: when it was begun,
    connecting included; ``connect_us``: how long that took, null on a connection that was there.

    ``head_us``: of the answer's head, null in runs from before it was kept; ``first_byte_us``: of its body;
    ``first_token_us``: of the first event that carries text, null where nothing is streamed; ``gaps_us``: between
    neighbouring events that carry text. ``phase``: of the plan, by when it was due. ``timing_ms``: the answer's
    Server-Timing. ``tag``: what the suite tells requests apart by.
    """

    scheduled_us: int | None
    sent_us: int
    connect_us: int | None
    first_byte_us: int | None
    first_token_us: int | None
    end_us: int
    gaps_us: list[int]
    input_tokens: int | None
    output_tokens: int | None
    stream: bool
    status: int
    phase: int
    turn: int
    worker: int
    model: str
    dialect: str
    tenant: str = ""
    tag: str = ""
    error: str = ""
    message: str = ""
    head_us: int | None = None
    timing_ms: dict[str, float] = {}

    @property
    def begun_us(self) -> int:
        """From when on its caller waits."""
        return self.sent_us if self.scheduled_us is None else self.scheduled_us

    @property
    def ttft_us(self) -> int | None:
        return None if self.first_token_us is None else self.first_token_us - self.begun_us

    @property
    def e2e_us(self) -> int:
        return self.end_us - self.begun_us

    @property
    def late_us(self) -> int | None:
        """How late the generator sent it."""
        return None if self.scheduled_us is None else self.sent_us - self.scheduled_us


def row_of(
    call: Call, zero_s: float, *, phase: int, turn: int = 0, worker: int = 0, tenant: str = "", tag: str = ""
) -> Row:
    """``zero_s``: the run's beginning, by the call's clock. Events are counted where the server named no tokens."""

    def since(at_s: float | None) -> int | None:
        return None if at_s is None else round((at_s - zero_s) * 1e6)

    times = call.token_times_s
    first = since(times[0]) if times else None
    points = [round((at_s - zero_s) * 1e6) for at_s in times]
    written = call.output_tokens
    return Row(
        scheduled_us=since(call.scheduled_s),
        sent_us=since(call.sent_s) or 0,
        connect_us=None if call.connect_s is None else round(call.connect_s * 1e6),
        first_byte_us=since(call.first_byte_s),
        first_token_us=first,
        end_us=since(call.ended_s) or 0,
        gaps_us=[later - earlier for earlier, later in pairwise(points)],
        input_tokens=call.input_tokens,
        output_tokens=written if written is not None else (len(times) if call.ask.stream else None),
        stream=call.ask.stream,
        status=call.status,
        phase=phase,
        turn=turn,
        worker=worker,
        model=call.ask.model,
        dialect=call.ask.dialect,
        tenant=tenant,
        tag=tag,
        error=call.error,
        message=call.message,
        head_us=since(call.head_s),
        timing_ms=call.timing_ms,
    )


_TEXTS = ("model", "dialect", "tenant", "tag", "error", "message")
_PLAIN = tuple(name for name in Row.__struct_fields__ if name not in (*_TEXTS, "timing_ms"))


def columns(rows: Sequence[Row]) -> dict[str, Any]:
    """``{"count", "names": {text column: values}, "columns": {...}, "server_timing_ms": {part: [...]}}``."""
    names: dict[str, list[str]] = {}
    found: dict[str, list[Any]] = {name: [getattr(row, name) for row in rows] for name in _PLAIN}
    for name in _TEXTS:
        values = [getattr(row, name) for row in rows]
        known = names[name] = sorted(set(values) - {""})
        place: dict[str, int | None] = {value: index for index, value in enumerate(known)} | {"": None}
        found[name] = [place[value] for value in values]
    parts = sorted({part for row in rows for part in row.timing_ms})
    timing = {part: [row.timing_ms.get(part) for row in rows] for part in parts}
    return {"count": len(rows), "names": names, "columns": found, "server_timing_ms": timing}


def rows(requests: Mapping[str, Any]) -> list[Row]:
    """From what ``columns`` made. Raises KeyError and msgspec.ValidationError for what it did not."""
    found, names, timing = requests["columns"], requests["names"], requests["server_timing_ms"]
    readers: dict[str, Callable[[int], Any]] = {}
    for name in Row.__struct_fields__:
        if name in _TEXTS:
            readers[name] = _text(found[name], names[name])
        elif name == "head_us" and name not in found:
            continue
        elif name != "timing_ms":
            readers[name] = found[name].__getitem__
    made = []
    for index in range(requests["count"]):
        fields = {name: read(index) for name, read in readers.items()}
        told = {part: values[index] for part, values in timing.items() if values[index] is not None}
        made.append(Row(**fields, timing_ms=told))
    return made


def _text(places: Sequence[int | None], names: Sequence[str]) -> Callable[[int], str]:
    def read(index: int) -> str:
        place = places[index]
        return "" if place is None else names[place]

    return read
