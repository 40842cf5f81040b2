"""The comparison as one table: for the terminal, and as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

TITLES = (
    "target", "TTFT p50 ms", "TTFT p99 ms", "by pass", "ITL p50 ms", "ITL p99 ms", "E2E p50 ms", "E2E p99 ms",
    "tokens/s", "failed", "valid",
)  # fmt: skip
NONE = "-"
FEWEST_FOR_P99 = 100


def cells(made: Mapping[str, Any]) -> list[list[str]]:
    """A row per target in the order that was given, those that could not be measured too."""
    found = [_row(target, made["passes"]) for target in made["targets"]]
    names = {row[0] for row in found}
    return found + [without([name], "not measured") for name in made["missing"] if name not in names]


def without(row: Sequence[str], why: str) -> list[str]:
    """A row of the same target that has no figures."""
    return [row[0], *[NONE] * (len(TITLES) - 2), why]


def _row(target: Mapping[str, Any], passes: int) -> list[str]:
    figures = target["figures"]
    ttft, gap, e2e = (figures[kind] for kind in ("ttft_ms", "gap_ms", "e2e_ms"))
    medians = [each["ttft_ms"]["p50"] for each in target["passes"] if each["ttft_ms"]["count"]]
    by_pass = f"{_ms(min(medians))}..{_ms(max(medians))}" if medians else NONE
    valid = "yes" if target["valid"] else "no"
    if len(target["passes"]) < passes:
        valid = f"{len(target['passes'])} of {passes} passes"
    return [
        target["name"], _of(ttft, "p50"), _of(ttft, "p99"), by_pass, _of(gap, "p50"), _of(gap, "p99"),
        _of(e2e, "p50"), _of(e2e, "p99"), f"{figures['output_tokens_per_s']:.0f}",
        f"{figures['failed']} of {figures['requests']}", valid,
    ]  # fmt: skip


def _of(figures: Mapping[str, float], name: str) -> str:
    return _ms(figures[name]) if figures["count"] else NONE


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def text(made: Mapping[str, Any]) -> Iterator[str]:
    yield _heading(made)
    rows = [list(TITLES), *cells(made)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(TITLES))]
    for row in rows:
        name, *rest = (cell.ljust(width) if place == 0 else cell.rjust(width)
                       for place, (cell, width) in enumerate(zip(row, widths, strict=True)))  # fmt: skip
        yield "  ".join([name, *rest]).rstrip()
    yield from (f"  {note}" for note in notes(made))


def markdown(made: Mapping[str, Any]) -> str:
    """For a pull request, or a page."""
    lines = [_heading(made), "", _line(TITLES), _line(["---", *["---:"] * (len(TITLES) - 1)])]
    lines += [_line([_escaped(cell) for cell in row]) for row in cells(made)]
    found = [f"- {_escaped(' '.join(note.split()))}" for note in notes(made)]
    return "\n".join([*lines, *(["", *found] if found else [])]) + "\n"


def _heading(made: Mapping[str, Any]) -> str:
    if not made["targets"]:
        return "nothing could be measured"
    settings = made["settings"]
    load = f"{settings['users']} users" if settings["users"] else f"{settings['rate_per_s']:g} requests/s"
    asked = ", ".join([*settings["models"], *settings["embedders"]])
    passes = f"{made['passes']} pass{'es' if made['passes'] > 1 else ''}"
    plan = made["plan"][0] if len(made["plan"]) == 1 else f"NOT ONE BUT {len(made['plan'])}"
    return f"{made['suite']}: {load}, {settings['duration_s']:g} s, {passes} each, {asked}; plan {plan}"


def notes(made: Mapping[str, Any]) -> Iterator[str]:
    """What the table cannot say: errors, why not valid, goals that were missed, who was left out."""
    fewest = min((target["figures"]["requests"] for target in made["targets"]), default=FEWEST_FOR_P99)
    if fewest < FEWEST_FOR_P99:
        yield f"p99 of {fewest} requests is the slowest of them"
    if made["targets"] and made["passes"] == 1:
        yield "one pass each: a machine that was busier for one than for another looks the same; --passes 3 tells"
    for target in made["targets"]:
        name = target["name"]
        if again := sum(each["again"] for each in target["passes"]):
            passes = len(target["passes"])
            yield f"{name}: run again, since it was not valid: {again} of {passes} passes"
        for error in target["figures"]["errors"]:
            yield f"{name}: {error['count']} x {error['code']}: {error['first']}"
        yield from (f"{name}: NOT VALID: {reason}" for reason in target["reasons"])
        for check in target["missed"]:
            shown = NONE if check["measured"] is None else f"{check['measured']:g}"
            yield f"{name}: missed: {check['what']} is {shown}, the goal {check['limit']:g}"
    yield from (f"{name}: left out: {why}" for name, why in made["missing"].items())


def _line(row: Sequence[str]) -> str:
    return f"| {' | '.join(row)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
