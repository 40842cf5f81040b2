"""What is said of a report's figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from loadtests.report.content import Line, Report, Span
from loadtests.report.estimate import LEVEL
from loadtests.report.sides import COMPARISON, COST, METRICS, Side, Subject

METRIC_WORDS = {"ttft_ms": "TTFT", "gap_ms": "Gap", "e2e_ms": "End to end", "failed": "Failed requests"}
PART_WORDS = {
    "late": "generator late",
    "auth": "auth",
    "queue": "queue",
    "wake": "wake",
    "connect": "connect",
    "engine": "engine",
    "network": "network",
}
MINUS = "\N{MINUS SIGN}"


def notes(subject: Subject, lines: Sequence[Line], paired: bool) -> Iterator[str]:
    """What a reader must know to believe the figures as far as they go, and no further."""
    sides = subject.sides
    for side in sides:
        if not side.valid:
            yield f"Not valid, {side.name}: {'; '.join(side.reasons)}. Nothing is called significant."
    if subject.left_out:
        yield f"Passes that were not valid, do not count, and were run again: {subject.left_out}."
    if subject.kind == COMPARISON:
        yield from _alike(sides[0], sides[1])
    if len(sides) > 1 and min(len(side.passes) for side in sides) == 1:
        yield (
            "One run a side: what changes from run to run by itself (a machine that is busier now than then) cannot "
            "be told from what is compared. Several passes (--direct --pairs 5) can."
        )
    clocks = {one.document["generator"]["clock"] for side in sides for one in side.passes}
    if len(clocks) > 1:
        yield (
            "Arrivals were timed by the kernel on one side and by the generator itself on the other (unix sockets have "
            "no times of the kernel's): the latter are later by what generator.read_late_ms in its run says."
        )
    yield from _left_out(subject, lines)
    if any(bool(side.first["target"].get("simulated")) for side in sides):
        yield "The GPUs were simulated: real models, computed on the CPU. Waits and the gateway's own work are real."


def _alike(one: Side, other: Side) -> Iterator[str]:
    if one.first["suite"] != other.first["suite"]:
        yield f"Different suites: {one.first['suite']} and {other.first['suite']}."
    elif one.digest != other.digest:
        yield "Different plans: the two did not ask the same at the same times, so requests are not compared in pairs."
    elif one.first["kind"] != "open":
        yield "Users who wait for their answers ask at times of their own, so requests are not compared in pairs."
    machines = {str(side.first["environment"]["machine"].get("cpu")) for side in (one, other)}
    if len(machines) > 1:
        yield f"Different machines: {' and '.join(sorted(machines))}."


def _left_out(subject: Subject, lines: Sequence[Line]) -> Iterator[str]:
    there = {line.key for line in lines}
    wanted = ("ttft_ms.p99", "gap_ms.p99", "e2e_ms.p99")
    missing = [key for key in wanted if key not in there and f"{key.split('.')[0]}.p50" in there]
    if missing:
        names = ", ".join(f"{METRIC_WORDS[key.split('.')[0]]} p99" for key in missing)
        each = "a run" if max(len(side.passes) for side in subject.sides) == 1 else "a pass"
        yield f"{names}: left out, {each} has fewer than 100 values."
    unbounded = [line for line in lines if line.second.known and line.second.high is None]
    if unbounded:
        names = ", ".join(f"{METRIC_WORDS[line.metric]} {line.name}" for line in unbounded)
        yield f"{names}: too few requests to say how much higher it may be (a p99 takes 368 independent ones)."


def load(document: dict[str, Any]) -> str:
    """``open load, 5 a second for 30 s, 4 models``"""
    settings, kind = document["settings"], document["kind"]
    count = len(settings["models"]) + len(settings["embedders"])
    rates = [phase["rate_per_s"] for phase in document["phases"] if phase["rate_per_s"]]
    if kind == "open" and rates:
        shown = f"{rates[0]:g}" if len(set(rates)) == 1 else f"{min(rates):g} to {max(rates):g}"
        what = f"open load, {shown} a second"
    elif kind == "closed":
        users = [phase["users"] for phase in document["phases"]]
        what = f"closed load, {max(users, default=0)} users"
    else:
        what = "one request after the other" if kind == "script" else "open load"
    models = ", ".join(settings["models"] + settings["embedders"]) if count <= 3 else f"{count} models"
    return f"{what}, {document['duration_s']:.0f} s, {models}"


def title(report: Report) -> str:
    names = " and ".join(side.name for side in report.sides)
    return {
        COST: f"What Roundhouse costs in latency: {report.suite}",
        COMPARISON: f"{report.suite}: {names}",
    }.get(report.kind, f"Load test: {report.suite}")


def headline(report: Report) -> str:
    """Of a picture that stands alone, without the page's badges: what they would say is said here."""
    said = f"{report.suite}: {report.load}" if report.kind != COST else title(report)
    return said + (", simulated GPUs" if report.simulated else "") + ("" if report.valid else ", NOT VALID")


def verdict(report: Report) -> str:
    missed = [goal for goal in report.goals if not goal.kept]
    if missed:
        return f"{len(missed)} of {len(report.goals)} goals missed"
    return "all goals kept" if len(report.goals) > 1 else "nothing failed"


def finding(line: Line) -> str:
    """``+0.21 ms (+1.1%), significant``: one line of a comparison in words."""
    if line.change is None or not line.change.known:
        return "nothing to compare"
    if line.metric not in METRICS:
        return ""
    by = signed(line.change, line.metric)
    share = "" if line.share is None or not line.share.known else f" ({percent(line.share.value or 0.0, True)})"
    return f"{by}{share}, {judged(line)}"


def judged(line: Line) -> str:
    """Beyond chance, but measured by a busy generator: not judged."""
    if line.significant:
        return "significant"
    return "not judged" if line.p is not None and line.p < LEVEL else "within chance"


def number(value: float | None, metric: str = "ttft_ms") -> str:
    """With as many digits as tell something."""
    if value is None:
        return "–"
    if metric == "failed":
        return percent(value)
    size = abs(value)
    digits = 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:,.{digits}f}".replace("-", MINUS)


def with_unit(value: float | None, metric: str = "ttft_ms") -> str:
    return number(value, metric) + ("" if metric == "failed" or value is None else " ms")


def signed(span: Span, metric: str) -> str:
    value = span.value
    if value is None:
        return "–"
    shown = with_unit(value, metric) if metric != "failed" else f"{number(value * 100)} points"
    return shown if value < 0 else f"+{shown}"


def interval(span: Span, metric: str = "ttft_ms", sign: bool = False) -> str:
    """``0.1 to 0.3``; an end that is not bounded is said to be so."""
    if not span.known:
        return ""
    low, high = ("" if end is None else _end(end, metric, sign) for end in (span.low, span.high))
    if low and high:
        return f"{low} to {high}"
    return f"from {low}" if low else f"up to {high}" if high else "unbounded"


def _end(value: float, metric: str, sign: bool) -> str:
    shown = number(value, metric)
    return f"+{shown}" if sign and value > 0 else shown


def percent(value: float, sign: bool = False) -> str:
    size = abs(value) * 100
    shown = f"{value * 100:,.{2 if 0 < size < 1 else 1 if size < 100 else 0}f}%".replace("-", MINUS)
    return f"+{shown}" if sign and value > 0 else shown


def chance(p: float | None) -> str:
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
