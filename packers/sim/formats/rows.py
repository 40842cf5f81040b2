"""Rows of text with names, and numbers that are what they should be; every error names file, line and field."""

from __future__ import annotations

import csv
import datetime
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from packers.sim.trace import Trace, TraceError


@dataclass(frozen=True, slots=True)
class Row:
    """``values``: text of a CSV, anything of a JSON object."""

    name: str
    line: int
    values: Mapping[str, Any]

    def error(self, field: str, message: str) -> TraceError:
        return TraceError(message, name=self.name, line=self.line, field=field)

    def text(self, field: str) -> str:
        value = self.values.get(field)
        if value is None or not str(value).strip():
            raise self.error(field, "is missing")
        return str(value).strip()

    def number(self, field: str, default: float | None = None, least: float = 0.0) -> float:
        """``default``: what a missing or empty one means; None: it must be there."""
        value = self.values.get(field)
        if value is None or value == "":
            if default is not None:
                return default
            raise self.error(field, "is missing")
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            raise self.error(field, f"{value!r} is not a number") from None
        if not least <= found < math.inf:  # NaN is neither
            raise self.error(field, f"{value!r} must be a number from {least:g} on")
        return found

    def whole(self, field: str, default: int | None = None) -> int:
        return int(self.number(field, default))

    def wholes(self, field: str) -> tuple[int, ...]:
        """A list of whole numbers from 0 on; a missing one is empty."""
        values = self.values.get(field)
        if values is None:
            return ()
        if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
            raise self.error(field, f"{str(values)[:80]!r} must be a list of whole numbers from 0 on")
        return tuple(values)

    def moment(self, field: str) -> float:
        """Seconds: a number, or a date and time (UTC where it does not say), which gives Unix time."""
        text = self.text(field)
        try:
            return float(text) if text.lower() != "nan" else self.number(field)
        except ValueError:
            pass
        try:
            when = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise self.error(field, f"{text!r} is neither seconds nor a date and time") from None
        return (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp()


def table(lines: Iterable[str], name: str, needs: Collection[str]) -> Iterator[Row]:
    """The rows of a CSV below its heading. Raises TraceError for missing columns and rows that are cut off."""
    reader = csv.reader(lines)
    heading = next((row for row in reader if row), None)
    columns = [column.strip().removeprefix("\ufeff") for column in heading or ()]
    for column in needs:
        if column not in columns:
            there = ", ".join(columns) or "nothing"
            raise TraceError(
                f"the heading lacks this column; it has {there}", name=name, line=reader.line_num, field=column
            )
    for values in reader:
        if not values:
            continue
        if len(values) < len(columns):
            missing = columns[len(values)]
            raise TraceError("the row ends before this field", name=name, line=reader.line_num, field=missing)
        yield Row(name, reader.line_num, dict(zip(columns, values, strict=False)))


def objects(lines: Iterable[str], name: str) -> Iterator[Row]:
    """One JSON object a line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as problem:
            raise TraceError(f"is not JSON: {problem}", name=name, line=number) from None
        if not isinstance(values, dict):
            raise TraceError("is not a JSON object", name=name, line=number)
        yield Row(name, number, values)


@dataclass(eq=False, slots=True)
class Columns:
    """Requests as they are read. ``known``: the only models that may come up; None: any."""

    name: str
    time_field: str
    model_field: str
    known: Collection[str] | None = None
    sorts: bool = False  # times may come in any order
    names: dict[str, int] = field(default_factory=dict)
    at_s: list[float] = field(default_factory=list)
    model: list[int] = field(default_factory=list)
    service_s: list[float] = field(default_factory=list)
    input_tokens: list[int] = field(default_factory=list)
    output_tokens: list[int] = field(default_factory=list)
    blocks: list[tuple[int, ...]] = field(default_factory=list)

    def add(
        self, row: Row, at_s: float, model: str, service_s: float = 0.0, input_tokens: int = 0, output_tokens: int = 0,
        blocks: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        if not 0 <= at_s < math.inf:
            raise row.error(self.time_field, f"{at_s} must be 0 or more")
        if not self.sorts and self.at_s and at_s < self.at_s[-1]:
            raise row.error(self.time_field, f"{at_s} is earlier than the row before ({self.at_s[-1]})")
        if self.known is not None and model not in self.known:
            raise row.error(self.model_field, f"model {model!r} is unknown")
        self.at_s.append(at_s)
        self.model.append(self.names.setdefault(model, len(self.names)))
        self.service_s.append(service_s)
        self.input_tokens.append(input_tokens)
        self.output_tokens.append(output_tokens)
        self.blocks.append(blocks)

    def trace(self) -> Trace:
        """Times count from the first request. Raises TraceError when there was none."""
        if not self.at_s:
            raise TraceError("there is no request in it", name=self.name)
        start_s = min(self.at_s)
        return Trace.of(
            self.names,
            [at_s - start_s for at_s in self.at_s],
            self.model,
            self.service_s,
            self.input_tokens,
            self.output_tokens,
            start_unix_s=start_s,
            blocks=self.blocks if any(self.blocks) else (),
        )
