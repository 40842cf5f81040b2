"""Goals of a file, and whether a run kept them.

.. code-block:: yaml

    ttft_ms: {p50: 200, p99: 1000}   # limits of percentiles: ttft_ms, gap_ms, e2e_ms
    gap_ms: {p99: 80}
    failed_share: 0.001              # of all requests, at most; 0 when it is not said
    good: {ttft_ms: 500, gap_p99_ms: 100, e2e_ms: 5000}   # a request that keeps all of these is good
    good_share: 0.99                 # of all requests, at least
    goodput_per_s: 4.5               # good requests a second, at least
    output_tokens_per_s: 100         # at least
    added_ttft_ms: {p50: 2, p99: 20} # over the engine itself (--direct); also added_gap_ms, added_e2e_ms
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from loadtests.figures import percentile
from loadtests.outcome.rows import Row


class SloError(ValueError):
    """The file holds no goals; the message names the field and what it may be."""


class Good(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of one request; None: any. ``gap_p99_ms``: of the gaps within its own answer."""

    ttft_ms: float | None = None
    gap_p99_ms: float | None = None
    e2e_ms: float | None = None


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ttft_ms: dict[str, float] = {}
    gap_ms: dict[str, float] = {}
    e2e_ms: dict[str, float] = {}
    failed_share: float = 0.0
    good: Good = Good()
    good_share: float | None = None
    goodput_per_s: float | None = None
    output_tokens_per_s: float | None = None
    added_ttft_ms: dict[str, float] = {}
    added_gap_ms: dict[str, float] = {}
    added_e2e_ms: dict[str, float] = {}

    @property
    def added(self) -> dict[str, dict[str, float]]:
        """By metric: how much later than the engine itself; only two sides can tell."""
        found = {"ttft_ms": self.added_ttft_ms, "gap_ms": self.added_gap_ms, "e2e_ms": self.added_e2e_ms}
        return {metric: limits for metric, limits in found.items() if limits}


NO_SLO = Slo()
# What two sides are compared by (loadtests.report.analysis).
COMPARED = {"ttft_ms": ("mean", "p50", "p90", "p99"), "gap_ms": ("mean", "p50", "p99"), "e2e_ms": ("p50", "p99")}
_NUMBERS_BY_NAME = ("ttft_ms", "gap_ms", "e2e_ms", "added_ttft_ms", "added_gap_ms", "added_e2e_ms")
_PERCENTILES = ("p50", "p90", "p95", "p99", "mean", "max")


def read_slo(file: Path) -> Slo:
    """Raises SloError."""
    try:
        document = yaml.safe_load(file.read_text())
    except OSError as problem:
        raise SloError(f"{file} cannot be read: {problem.strerror or problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise SloError(f"{file} is no YAML: {' '.join(str(problem).split())}") from None
    slo = _goals({} if document is None else document, file)
    for kind in ("ttft_ms", "gap_ms", "e2e_ms"):
        for name in getattr(slo, kind):
            if name not in _PERCENTILES:
                raise SloError(f"{file}: {kind}.{name} is none of {', '.join(_PERCENTILES)}")
    for metric, limits in slo.added.items():
        for name in limits:
            if name not in COMPARED[metric]:
                raise SloError(f"{file}: added_{metric}.{name} is none of {', '.join(COMPARED[metric])}")
    return slo


def _goals(document: Any, file: Path) -> Slo:
    """Raises SloError."""
    if not isinstance(document, dict):
        raise SloError(f"{file} names no goal; one is like ttft_ms: {{p99: 1000}}")
    for fields, where in ((document, ""), (document.get("good"), "good.")):
        known = Slo.__struct_fields__ if fields is document else Good.__struct_fields__
        for name in fields if isinstance(fields, dict) else ():
            if name not in known:
                near = difflib.get_close_matches(str(name), known, 1)
                cure = f"did you mean {where}{near[0]}?" if near else f"there are {', '.join(known)}"
                raise SloError(f"{file}: there is no goal {where}{name}; {cure}")
    for name in _NUMBERS_BY_NAME:
        for key, limit in document[name].items() if isinstance(document.get(name), dict) else ():
            if isinstance(limit, bool) or not isinstance(limit, int | float):
                raise SloError(f"{file}: {name}.{key} must be a number of milliseconds, not {limit!r}")
    try:
        return msgspec.convert(document, Slo)
    except msgspec.ValidationError as problem:
        raise SloError(f"{file}: {problem}") from None


def is_good(row: Row, good: Good) -> bool:
    """Answered, and within every limit; a request that is not streamed has no first token and no gaps to miss."""
    if row.error:
        return False
    if good.e2e_ms is not None and row.e2e_us > good.e2e_ms * 1e3:
        return False
    ttft_us = row.ttft_us
    if good.ttft_ms is not None and row.stream and (ttft_us is None or ttft_us > good.ttft_ms * 1e3):
        return False
    return not (
        good.gap_p99_ms is not None and row.gaps_us and percentile(sorted(row.gaps_us), 99) > good.gap_p99_ms * 1e3
    )


class Check(msgspec.Struct, frozen=True):
    """One goal: ``measured`` is None when there was nothing to measure, which keeps no goal."""

    what: str
    measured: float | None
    limit: float
    kept: bool


def judge(slo: Slo, figures: Mapping[str, Any]) -> list[Check]:
    """``figures``: what ``loadtests.outcome.summary`` found of the whole run."""
    found = []
    for kind in ("ttft_ms", "gap_ms", "e2e_ms"):
        for name, limit in getattr(slo, kind).items():
            found.append(_at_most(f"{kind}.{name}", figures[kind].get(name), limit))
    found.append(_at_most("failed_share", figures["failed_share"], slo.failed_share))
    for name in ("good_share", "goodput_per_s", "output_tokens_per_s"):
        limit = getattr(slo, name)
        if limit is not None:
            measured = figures[name]
            found.append(Check(name, measured, limit, measured is not None and measured >= limit))
    return found


def _at_most(what: str, measured: float | None, limit: float) -> Check:
    return Check(what, measured, limit, measured is not None and measured <= limit)


def kept(checks: Sequence[Check]) -> bool:
    return all(check.kept for check in checks)
