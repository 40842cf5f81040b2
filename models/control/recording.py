"""The file that ``roundhouse record`` writes: what was decided from what, and the requests that came. One JSON a line.

Everything that a decision follows from is in its line, to the last bit, so that deciding again must give the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec

from packers.decide import Policies
from packers.load import ScaleMemory
from packers.types import Action, ModelId, Plan, Snapshot

FORMAT = 1
_ACTIONS: dict[str, type] = {kind.__name__.lower(): kind for kind in get_args(Action)}
_NOT_IN_JSON = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


class RecordingError(Exception):
    """A line that cannot be read; says which, and what is wrong with it."""


class Header(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="header"):
    """The first line. ``roundhouse``: the version that wrote it. ``simulated``: whether the GPUs were."""

    format: int = FORMAT
    roundhouse: str
    at_unix_s: float
    simulated: bool = False


class Step(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="step"):
    """One decision: the world, the policies, and what they made of it."""

    snapshot: Snapshot
    policies: Policies
    plan: Plan


class Arrivals(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="arrivals"):
    """Requests of a model since the line before, told at ``at_s`` (Unix). ``service_s``: mean of the finished ones."""

    at_s: float
    model: str
    count: int
    finished: int = 0
    service_s: float | None = None


class Dropped(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="dropped"):
    """So many lines are missing here: they came faster than they could be written."""

    lines: int


Line = Header | Step | Arrivals | Dropped
_KINDS: dict[str, type[Line]] = {"header": Header, "step": Step, "arrivals": Arrivals, "dropped": Dropped}


def encode_line(line: Line) -> str:
    """One line of JSON, without its end."""
    if isinstance(line, Step):
        plan = line.plan
        fields = {
            "kind": "step",
            "snapshot": _plain(msgspec.to_builtins(line.snapshot)),
            "policies": _plain(msgspec.to_builtins(line.policies)),
            "actions": [
                {"action": type(action).__name__.lower(), **_plain(msgspec.to_builtins(action))}
                for action in plan.actions
            ],
            "memories": [[model, _plain(msgspec.to_builtins(memory))] for model, memory in plan.memories],
        }
        return msgspec.json.encode(fields).decode()
    return msgspec.json.encode(line).decode()


def decode_line(text: str | bytes) -> Line:
    """Raises RecordingError."""
    try:
        fields = msgspec.json.decode(text)
        kind = _KINDS.get(str(fields.get("kind"))) if isinstance(fields, dict) else None
        if kind is None:
            raise RecordingError(f"is no line of a recording: its kind must be one of {', '.join(_KINDS)}")
        return _step(fields) if kind is Step else msgspec.convert(fields, kind)
    except msgspec.MsgspecError as problem:
        raise RecordingError(str(problem)) from None
    except (KeyError, TypeError, ValueError) as problem:
        raise RecordingError(f"{type(problem).__name__}: {problem}") from None


def read_lines(lines: Iterable[str], name: str) -> Iterator[Line]:
    """The lines of a recording. Raises RecordingError naming the file, the line and the field."""
    number = 0
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = decode_line(text)
            if number == 1 and not isinstance(line, Header):
                raise RecordingError("the first line must be the header of a recording")
            if isinstance(line, Header) and line.format != FORMAT:
                raise RecordingError(f"format {line.format} is unknown; this version reads format {FORMAT}")
        except RecordingError as problem:
            raise RecordingError(f"{name}, line {number}: {problem}") from None
        yield line
    if not number:
        raise RecordingError(f"{name}: is empty; a recording begins with a header")


def _step(fields: dict[str, Any]) -> Step:
    snapshot: Snapshot = _read(fields["snapshot"], Snapshot)
    actions = tuple(
        _read({name: value for name, value in action.items() if name != "action"}, _ACTIONS[action["action"]])
        for action in fields["actions"]
    )
    memories = tuple((ModelId(model), _read(memory, ScaleMemory)) for model, memory in fields["memories"])
    policies: Policies = _read(fields["policies"], Policies)
    return Step(snapshot=snapshot, policies=policies, plan=Plan(snapshot.id, actions, memories))


def _read(value: Any, kind: type) -> Any:
    return msgspec.convert(_restored(value), kind)


def _plain(value: Any) -> Any:
    """JSON has no infinities: they are written as ``{"float": "inf"}``."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"float"}:
            return _NOT_IN_JSON[value["float"]]
        return {key: _restored(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_restored(inner) for inner in value]
    return value
