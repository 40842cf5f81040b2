"""All that a report says, in figures: what ``--json`` prints, and what page, comment and table are made of."""

from __future__ import annotations

import math
from typing import Any

import msgspec

FORMAT, VERSION = "roundhouse-loadtest-report", 1


class Span(msgspec.Struct, frozen=True):
    """A figure and its 95% confidence interval; null where the requests are too few to bound it on that side."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def known(self) -> bool:
        return self.value is not None


class Line(msgspec.Struct, frozen=True):
    """``metric``: ttft_ms, gap_ms, e2e_ms, failed (a share). ``first``, ``change``, ``share`` (of the first's figure):
    where there are two sides. ``p``: adjusted for all lines together. ``passes``: the change in each."""

    metric: str
    name: str
    second: Span
    first: Span | None = None
    change: Span | None = None
    share: Span | None = None
    p: float | None = None
    significant: bool = False
    passes: list[float] = []

    @property
    def key(self) -> str:
        return f"{self.metric}.{self.name}"


class PartLine(msgspec.Struct, frozen=True):
    """Of the mean TTFT; ``share`` of it."""

    part: str
    mean_ms: Span
    share: float


class Waterfall(msgspec.Struct, frozen=True):
    """Means over ``requests``. ``direct_ms``: what the engine itself took for those of the same rank."""

    title: str
    requests: int
    parts_ms: dict[str, float]
    direct_ms: float | None = None


class SideFacts(msgspec.Struct, frozen=True):
    name: str
    target: dict[str, Any]
    passes: int
    requests: int
    failed: int
    valid: bool
    reasons: list[str]
    errors: list[dict[str, Any]]
    started_unix_s: list[float]
    digest: str
    requests_per_s: float
    output_tokens_per_s: float
    goodput_per_s: float


class Goal(msgspec.Struct, frozen=True):
    what: str
    measured: float | None
    limit: float
    kept: bool


class Group(msgspec.Struct, frozen=True):
    """A phase, tag, model or tenant: figures of ``loadtests.outcome.summary``."""

    kind: str
    name: str
    figures: dict[str, Any]


class Report(msgspec.Struct, frozen=True):
    """``kind``: run, cost or comparison. ``paired``: requests, or passes, of both sides belong together.
    ``block``: requests that were drawn together. ``pairs``: of requests that were compared one by one."""

    kind: str
    suite: str
    sides: list[SideFacts]
    lines: list[Line]
    parts: list[PartLine]
    waterfalls: list[Waterfall]
    goals: list[Goal]
    groups: list[Group]
    notes: list[str]
    paired: bool
    block: int
    pairs: int
    load: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    knee: dict[str, Any] | None = None
    argv: list[str] = []
    format: str = FORMAT
    version: int = VERSION

    @property
    def kept(self) -> bool:
        return all(goal.kept for goal in self.goals)

    @property
    def valid(self) -> bool:
        return all(side.valid for side in self.sides)

    @property
    def single(self) -> bool:
        """One run of a side: what changes from run to run by itself cannot be told from what is compared."""
        return len(self.sides) > 1 and min(side.passes for side in self.sides) == 1

    @property
    def simulated(self) -> bool:
        return any(bool(side.target.get("simulated")) for side in self.sides)

    def line(self, key: str) -> Line | None:
        return next((line for line in self.lines if line.key == key), None)


def document(report: Report) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.to_builtins(report)
    return made | {"verdict": {"kept": report.kept, "valid": report.valid}}


def plain(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else round(value, 6)
