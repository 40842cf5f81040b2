"""A decision in a line for people, and what else there is to say of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.cli.output import bytes_text

BASES = {"assumed": ", assumed", "others": ", by other models"}  # what it was estimated from, where not from its own


def line(decision: Mapping[str, Any]) -> str:
    """``12:04:07 sleep   tiny-gemma on node/0 for tiny-qwen3: least recently used (estimate 0.30 s, took 0.28 s)``"""
    at = datetime.datetime.fromtimestamp(decision["at_unix_s"]).astimezone().strftime("%H:%M:%S")
    where = f" on {decision['gpu']}" if decision["gpu"] else ""
    whom = f" for {decision['evicted_for']}" if decision["evicted_for"] else ""
    why = f": {decision['reason']}" if decision["reason"] else ""
    times = timing(decision)
    about = f" {decision['model_id'] or ''}{where}{whom}".rstrip()
    return f"{at} {decision['action']:<7}{about}{why}{f' ({times})' if times else ''}"


def timing(decision: Mapping[str, Any]) -> str:
    """``estimate 0.30 s, took 0.28 s``; of an outcome only what it took, for its decision has told the rest."""
    details = decision["details"]
    if decision.get("of"):
        return _took(details.get("took_s"), details.get("estimate_s"))
    if "estimate_s" not in details:
        return ""
    told = f"estimate {_span(details['estimate_s'])}{BASES.get(details.get('estimated_from'), '')}"
    came = decision.get("outcome")
    if came is None:
        return told
    if came["action"] in ("failed", "died"):
        return f"{told}; {came['action']}"
    return told if came["took_s"] is None else f"{told}, took {_span(came['took_s'])}"


def _took(took_s: float | None, estimate_s: float | None) -> str:
    if took_s is None:
        return ""
    return f"took {_span(took_s)}" + (f", estimated {_span(estimate_s)}" if estimate_s is not None else "")


def more(decision: Mapping[str, Any]) -> Iterator[str]:
    """What ``--explain`` adds: its price, the GPUs that were looked at, what else would have been possible."""
    details = decision["details"]
    cost = details.get("cost")
    if cost is not None:
        yield f"cost: {price(cost)}"
    if details.get("gain_gpus"):
        yield f"gain: {details['gain_gpus']:.2f} GPU for {details['cost_gpu_s']:.1f} GPU-seconds"
    for one in details.get("candidates", ()):
        verdict = f"rejected: {one['rejected']}" if one["rejected"] else f"score {one['score']:.4g}"
        yield f"{one['gpu']}  {bytes_text(one['free_bytes'])} free  {verdict}"
    yield from details.get("counterfactuals", ())


def price(cost: Mapping[str, Any]) -> str:
    """``2.1 s of loading, 600 MiB moved; delays the next caller of qwen by 2.1 s``"""
    parts = [f"{_span(cost['load_s'])} of loading"] if cost["load_s"] else []
    parts += [f"{bytes_text(cost['moved_bytes'])} moved"] if cost["moved_bytes"] else []
    told = ", ".join(parts) or "nothing is moved"
    delays = ", ".join(f"{model} by {_span(later_s)}" for model, later_s in cost["delays"].items())
    return f"{told}; delays the next caller of {delays}" if delays else told


def _span(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
