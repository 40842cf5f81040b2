"""The matrix as people read it, and as JSON: a row for each fault, a column for each moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loadtests.chaos.calls import AFTER_FIRST_BYTE, BEFORE_FIRST_BYTE, How
from loadtests.chaos.cell import Result
from loadtests.chaos.verdict import PRICES, broken

LEGEND = (
    "ok|RED  failed before the first byte/after it/refused with Retry-After of all calls  "
    "seconds until a fresh answer/all recovered"
)


def cell_text(result: Result) -> str:
    """``ok 0/2/0 of 412  0.1/5.6 s``."""
    if result.problem:
        return "RED not played"
    before, after = result.count(*BEFORE_FIRST_BYTE), result.count(*AFTER_FIRST_BYTE)
    verdict = "RED" if broken(result) else "ok"
    return (
        f"{verdict} {before}/{after}/{result.count(How.REFUSED)} of {len(result.calls)}  "
        f"{_seconds(result.call_s)}/{_seconds(_longest(result))} s"
    )


def _longest(result: Result) -> float | None:
    times = [seconds for seconds in result.recovered.after_s.values() if seconds is not None]
    return max(times) if result.recovered.whole and times else None


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"


def table(results: Sequence[Result]) -> str:
    """Rows and columns in the order in which they were played; below it, why a cell is red."""
    faults = list(dict.fromkeys(result.fault for result in results))
    moments = list(dict.fromkeys(result.moment for result in results))
    found = {(result.fault, result.moment): result for result in results}
    rows = [["", *moments]]
    for fault in faults:
        cells = [found.get((fault, moment)) for moment in moments]
        rows.append([fault, *(cell_text(cell) if cell else "" for cell in cells)])
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, LEGEND, *reasons(results)])


def reasons(results: Sequence[Result]) -> list[str]:
    return [f"{result.fault} x {result.moment}: {reason}" for result in results for reason in broken(result)]


def samples_line(results: Sequence[Result]) -> str:
    ledgers = sum(result.seen.ledgers for result in results)
    looks = sum(result.seen.looks for result in results)
    wrong = sum(sum(result.seen.wrong.values()) for result in results)
    return f"ledger looked at {ledgers} times, processes {looks} times: {wrong} times something was wrong"


def document(results: Sequence[Result], about: Mapping[str, Any]) -> dict[str, Any]:
    cells = [
        {**result.document(), "promise": PRICES[result.fault].promise, "red": broken(result)} for result in results
    ]
    return {**about, "green": sum(not cell["red"] for cell in cells), "of": len(cells), "cells": cells}
