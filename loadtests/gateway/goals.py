"""From passes to figures: what the goals G1, G2 and G3 ask of the comparison. Pure.

Ratios and differences are taken within a pass, and of those the median: what moves the machine moves both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from loadtests.gateway.comparison import DIRECT
from loadtests.gateway.ours import NAME
from loadtests.gateway.passes import Measure, Pass
from loadtests.policies.report import Figure

NGINX_SHARE = 0.65
ROUTER_TIMES = 2.0
ROUTERS = ("vllm-router", "sglang-router")
ADDED_P50_US, ADDED_P99_US, ADDED_FIRST_BYTE_US = 130.0, 1000.0, 200.0
EVENTS_PER_S = 120_000.0
LEAVE_MS = 20.0

Passes = Mapping[str, Sequence[Pass]]


def values(passes: Passes, name: str, measure: Measure) -> list[float]:
    return [each.figures[measure] for each in passes.get(name, ()) if measure in each.figures]


def median_of(passes: Passes, name: str, measure: Measure) -> float | None:
    found = values(passes, name, measure)
    return median(found) if found else None


def ratios(passes: Passes, name: str, other: str, measure: Measure) -> list[float]:
    """Of each pass in which both were measured."""
    return [mine / theirs for mine, theirs in _pairs(passes, name, other, measure) if theirs]


def added(passes: Passes, name: str, measure: Measure) -> list[float]:
    """Over the same without a gateway."""
    return [mine - theirs for mine, theirs in _pairs(passes, name, DIRECT, measure)]


def _pairs(passes: Passes, name: str, other: str, measure: Measure) -> Iterator[tuple[float, float]]:
    for mine, theirs in zip(passes.get(name, ()), passes.get(other, ()), strict=False):
        if measure in mine.figures and measure in theirs.figures:
            yield mine.figures[measure], theirs.figures[measure]


def figures(passes: Passes) -> list[Figure]:
    """Those that could be measured."""
    return [*_g1(passes), *_processor(passes), *_g2(passes), *_g3(passes)]


def _g1(passes: Passes) -> Iterator[Figure]:
    kinds = (
        ("16 connections", Measure.RPS_16),
        ("64 connections", Measure.RPS_64),
        ("16 connections, varied heads and bodies", Measure.VARIED_16),
        ("64 connections, varied heads and bodies", Measure.VARIED_64),
    )
    for item, measure in kinds:
        for other, limit in (("nginx", NGINX_SHARE), *((router, ROUTER_TIMES) for router in ROUTERS)):
            found = ratios(passes, NAME, other, measure)
            if not found:
                continue
            others = {
                f"{name} /s": value
                for name in passes
                if name in (NAME, other) and (value := median_of(passes, name, measure)) is not None
            }
            yield Figure("G1", item, f"requests a second over {other}'s", median(found), "x", limit, False, others,
                         {"passes": found})  # fmt: skip


def _processor(passes: Passes) -> Iterator[Figure]:
    """Not asked for by a goal, but what others do on the core meanwhile changes it least."""
    for item, measure in (
        ("16 connections", Measure.CPU_US),
        ("16 connections, varied heads and bodies", Measure.VARIED_CPU_US),
    ):
        found = values(passes, NAME, measure)
        if found:
            details = {"passes": found}
            yield Figure("G1", item, "processor time of a request", median(found), "us", None, True,
                         _medians(passes, measure), details)  # fmt: skip


def _g2(passes: Passes) -> Iterator[Figure]:
    limits = ((Measure.P50_1, "p50", ADDED_P50_US), (Measure.P99_1, "p99", ADDED_P99_US))
    for measure, name, limit in limits:
        yield from _over_direct(passes, "G2", "1 connection", f"added latency, {name}", measure, limit)
    yield from _over_direct(
        passes, "G2", "1 connection, varied heads and bodies", "added latency, p50", Measure.VARIED_P50_1, ADDED_P50_US
    )


def _g3(passes: Passes) -> Iterator[Figure]:
    name = "added time to first byte, p50"
    yield from _over_direct(passes, "G3", "streams", name, Measure.FIRST_BYTE, ADDED_FIRST_BYTE_US)
    singles = (
        (Measure.BURST_EVENTS, "64 streams", "events a second", "/s", EVENTS_PER_S, False),
        (Measure.LEAVE_MS, "streams", "client gone to engine told, median", "ms", LEAVE_MS, True),
    )
    for measure, item, name, unit, limit, at_most in singles:
        found = values(passes, NAME, measure)
        if found:
            others = _medians(passes, measure)
            yield Figure("G3", item, name, median(found), unit, limit, at_most, others, {"passes": found})


def _over_direct(
    passes: Passes, goal: str, item: str, name: str, measure: Measure, limit_us: float
) -> Iterator[Figure]:
    found = added(passes, NAME, measure)
    if found:
        others = {
            other: median(theirs)
            for other in passes
            if other not in (NAME, DIRECT) and (theirs := added(passes, other, measure))
        }
        yield Figure(goal, item, name, median(found), "us", limit_us, True, others, {"passes": found})


def _medians(passes: Passes, measure: Measure) -> dict[str, float]:
    found = {name: median_of(passes, name, measure) for name in passes if name != NAME}
    return {name: value for name, value in found.items() if value is not None}
