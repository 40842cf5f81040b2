"""What is reported on: one side or two, each of one run or of several passes."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.outcome.document import RUN_FILE, DocumentError, read
from loadtests.outcome.rows import Row, rows
from loadtests.report.blocks import Floats
from loadtests.report.passes import PAIRS_FILE, PairsError, read_pairs
from loadtests.report.statistic import Values

RUN, COST, COMPARISON = "run", "cost", "comparison"
_NEEDED = (
    "suite", "kind", "settings", "plan", "started_unix_s", "duration_s", "target", "environment", "phases", "generator",
    "summary", "series", "requests",
)  # fmt: skip
_CURE = "copy it again, run the load test again, or use the version that wrote it"
_NOT_RUNS = {
    "report.json": "it is the report of a run: name run.json beside it (of --direct: pairs.json), or their folder",
    "comparison.json": "it is the table of `compare`: its runs are in the folders beside it; name one of them, or two",
}
DIRECT_NAME, THROUGH_NAME = "engine alone", "through Roundhouse"
SAME_US = 5  # two plans' times of one arrival, after the clock's roundings


@dataclass(frozen=True)
class Pass:
    """One run. ``rows``: by when they began."""

    document: dict[str, Any]
    rows: list[Row]

    @classmethod
    def of(cls, document: dict[str, Any]) -> Pass:
        return cls(document, sorted(rows(document["requests"]), key=lambda row: row.begun_us))

    @property
    def ttft(self) -> list[list[float]]:
        """Milliseconds, of each request; nothing of those that failed. All others below likewise."""
        return [[] if row.error or row.ttft_us is None else [row.ttft_us / 1e3] for row in self.rows]

    @property
    def gaps(self) -> list[list[float]]:
        return [[] if row.error else [gap / 1e3 for gap in row.gaps_us] for row in self.rows]

    @property
    def e2e(self) -> list[list[float]]:
        return [[] if row.error else [row.e2e_us / 1e3] for row in self.rows]

    @property
    def failed(self) -> list[list[float]]:
        """1 where it failed, else 0."""
        return [[float(bool(row.error))] for row in self.rows]

    def series(self) -> Floats:
        """Latencies in order, NaN where there are none."""
        one = self.ttft if any(self.ttft) else self.e2e
        return np.array([values[0] if values else np.nan for values in one])


METRICS = {"ttft_ms": "ttft", "gap_ms": "gaps", "e2e_ms": "e2e", "failed": "failed"}


def values(one: Pass, metric: str) -> Values:
    return Values.of(getattr(one, METRICS[metric]))


@dataclass(frozen=True)
class Side:
    name: str
    passes: tuple[Pass, ...]

    @property
    def first(self) -> dict[str, Any]:
        return self.passes[0].document

    @property
    def digest(self) -> str:
        return str(self.first["plan"]["digest"])

    @property
    def rows(self) -> list[Row]:
        return [row for one in self.passes for row in one.rows]

    @property
    def valid(self) -> bool:
        return all(one.document["generator"]["valid"] for one in self.passes)

    @property
    def reasons(self) -> list[str]:
        """Why it is not valid."""
        several = len(self.passes) > 1
        told = [(number, one.document["generator"]["reasons"]) for number, one in enumerate(self.passes, 1)]
        return [f"pass {number}: {reason}" if several else reason for number, reasons in told for reason in reasons]


@dataclass(frozen=True)
class Subject:
    """``sides``: of ``cost``, the engine itself and then the service; of ``comparison``, as they were named.
    ``left_out``: passes that were not valid, and run again."""

    kind: str
    sides: tuple[Side, ...]
    argv: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def shown(self) -> Side:
        """The one that goals are for."""
        return self.sides[-1]


def load(files: Sequence[Path]) -> Subject:
    """One file: a run, or passes of both sides (``pairs.json``, or a folder with it). Two: a comparison.

    Raises DocumentError, PairsError.
    """
    if len(files) == 1:
        place = _pairs(files[0])
        if place is None:
            return Subject(RUN, (Side(_label(files[0]), (_pass(_run(files[0])),)),))
        pairs, base = read_pairs(place)
        direct, through = (tuple(_pass(file) for file in side) for side in pairs.files(base))
        _one_plan(place, direct + through)
        return Subject(
            COST, (Side(DIRECT_NAME, direct), Side(THROUGH_NAME, through)), tuple(pairs.argv), len(pairs.left_out)
        )
    first, second = (_side(file) for file in files)
    if first.name == second.name:
        first, second = Side(f"{first.name} (A)", first.passes), Side(f"{second.name} (B)", second.passes)
    return Subject(COMPARISON, (first, second))


def _side(file: Path) -> Side:
    """Of passes, those through the service."""
    place = _pairs(file)
    if place is None:
        return Side(_label(file), (_pass(_run(file)),))
    pairs, base = read_pairs(place)
    found = tuple(_pass(one) for one in pairs.files(base)[1])
    _one_plan(place, found)
    return Side(_label(file), found)


def _pass(file: Path) -> Pass:
    """Raises DocumentError, which says what to name instead."""
    if not file.exists():
        hint = f"a load test leaves {RUN_FILE} in its --out" if file.name == RUN_FILE else "name a run's file or folder"
        raise DocumentError(f"{file} is not there: {hint}")
    if file.name in _NOT_RUNS:
        raise DocumentError(f"{file} is no run: {_NOT_RUNS[file.name]}")
    try:
        document = read(file)
    except DocumentError as problem:
        raise DocumentError(f"{problem}; {_CURE}") from None
    if missing := [name for name in _NEEDED if name not in document]:
        raise DocumentError(f"{file} is a run without {', '.join(missing)}: it was changed, or cut; run it again")
    try:
        return Pass.of(document)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as problem:
        raise DocumentError(f"{file}: its requests cannot be read ({problem!r}); run it again") from None


def _one_plan(place: Path, passes: Sequence[Pass]) -> None:
    digests = {one.document["plan"]["digest"] for one in passes}
    if len(digests) > 1:
        plans = ", ".join(sorted(digests))
        raise PairsError(f"{place}: its runs did not ask the same (plans {plans}); compare two of them: report A B")


def _pairs(file: Path) -> Path | None:
    if file.is_dir():
        return file / PAIRS_FILE if (file / PAIRS_FILE).exists() else None
    return file if file.name == PAIRS_FILE else None


def _run(file: Path) -> Path:
    return file / RUN_FILE if file.is_dir() else file


def _label(file: Path) -> str:
    """The file's name, or its folder's where all files are called that."""
    if file.is_dir():
        return file.resolve().name
    plain = file.name.removesuffix(".gz").removesuffix(".json")
    return file.resolve().parent.name if plain in ("run", "pairs") else plain


def matched(first: Pass, second: Pass) -> tuple[Pass, Pass]:
    """The planned requests that both have, in one order: what was asked at one time with one shape is a pair.

    Later turns of conversations wait for answers, so their times are not the plan's: they are left out.
    """
    waiting: dict[tuple[object, ...], deque[Row]] = defaultdict(deque)
    for row in _planned(second):
        waiting[_shape(row)].append(row)
    pairs = []
    for row in _planned(first):
        others = waiting[_shape(row)]
        while others and others[0].begun_us < row.begun_us - SAME_US:
            others.popleft()
        if others and others[0].begun_us <= row.begun_us + SAME_US:
            pairs.append((row, others.popleft()))
    return Pass(first.document, [one for one, _ in pairs]), Pass(second.document, [other for _, other in pairs])


def _planned(one: Pass) -> Iterator[Row]:
    return (row for row in one.rows if row.scheduled_us is not None and row.turn <= 1)


def _shape(row: Row) -> tuple[object, ...]:
    """A trace may have many requests at one time: those of another kind are no counterpart."""
    return row.model, row.dialect, row.stream, row.tenant, row.tag
