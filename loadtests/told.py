"""A run in words, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

NOT_VALID = (
    "these are not the service's figures alone: the generator was a bottleneck, or shared its core with others; "
    "leave it a core, ask less (--rate, --users), or add --workers"
)
_KINDS = (("ttft_ms", "TTFT"), ("gap_ms", "gap"), ("e2e_ms", "E2E"))


def lines(run: Mapping[str, Any]) -> Iterator[str]:
    """The figures, phase by phase; errors; the generator's own; the verdict."""
    whole = run["summary"]
    yield _line(run["suite"], whole)
    yield from _parts(run["suite"], whole)
    for error in whole["errors"]:
        yield f"  {error['count']} x {error['code']}: {error['first']}"
    for mark in run["marks"]:
        if mark["what"] != "reached":
            yield f"  {mark['at_s']:.1f} s: {mark['what']} {mark['detail']}"
    yield _generator(run["generator"])
    if shortened := run["generator"]["shortened"]:
        yield f"  {shortened} prompts or answers were shortened to fit their models' contexts"
    for check in run["verdict"]["checks"]:
        if not check["kept"]:
            shown = "nothing" if check["measured"] is None else f"{check['measured']:g}"
            yield f"  missed: {check['what']} is {shown}, the goal {check['limit']:g}"
    for reason in run["generator"]["reasons"]:
        yield f"  NOT VALID: {reason}"
    if any("late" in reason or "core" in reason for reason in run["generator"]["reasons"]):
        yield f"  {NOT_VALID}"


def _parts(suite: str, whole: Mapping[str, Any]) -> Iterator[str]:
    if len(whole["phases"]) > 1:
        yield from (_line(f"  {phase['name']}", phase) for phase in whole["phases"])
    kind = {"zero": "tags", "noisy-neighbour": "tenants"}.get(suite)
    if kind:
        yield from (_line(f"  {name}", figures) for name, figures in whole[kind].items())
    if knee := whole.get("knee"):
        yield f"  knee: {knee['step']} ({knee['requests_per_s']:g} requests/s); beyond it: {knee['because']}"
    if parts := whole["server_timing_ms"]:
        shares = ", ".join(f"{part} {figures['p50']:.1f}/{figures['p99']:.1f}" for part, figures in parts.items())
        yield f"  Server-Timing p50/p99 ms: {shares}"


def _generator(generator: Mapping[str, Any]) -> str:
    late = generator["send_late_ms"]
    sends = f"sends p99 {late['p99']:.2f} ms late, " if late else ""
    busy = f"{max(generator['cpu_share'], default=0.0):.0%} of a core ({generator['busiest_share']:.0%} at its busiest)"
    reads = f"reads p99 {generator['read_late_ms']['p99']:.2f} ms late"
    return f"  generator: {busy}, {sends}{reads}, {generator['most_open']} open at most"


def _line(name: str, figures: Mapping[str, Any]) -> str:
    parts = [f"{name}: {figures['requests']} requests, {figures['failed']} failed"]
    parts.append(f"{figures['requests_per_s']:g} requests/s, {figures['output_tokens_per_s']:.0f} tokens/s")
    for kind, label in _KINDS:
        if figures[kind]["count"]:
            parts.append(f"{label} p50/p99 {figures[kind]['p50']:.1f}/{figures[kind]['p99']:.1f} ms")
    return " | ".join(parts)
