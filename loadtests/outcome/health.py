"""Whether the generator was the bottleneck: how late it sent and read, and how busy it was. Pure.

A run is refused when one of these is broken; the limits are below.
1. Everything that was planned was sent, every worker told its end, and what was sent has its end in the document.
2. Requests left when they were due: p99 within LATE_P99_MS, or within LATE_OF_TTFT of the median time to first token.
3. What arrived was read: p99 within READ_P99_MS. With the kernel's own times (``loadtests.client.moments``) late reads
   bend no figure until several events pile up, so that the limit is wider by KERNEL_SLACK.
4. No worker used more than BUSY_SHARE of its core in any BUSY_WINDOW_S.
5. The generator ran out of nothing (descriptors).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from loadtests.client.call import NO_DESCRIPTORS
from loadtests.client.reading import Lateness
from loadtests.figures import percentile
from loadtests.outcome.rows import Row

LATE_P99_MS, LATE_OF_TTFT = 10.0, 0.02
READ_P99_MS, KERNEL_SLACK = 5.0, 4.0
BUSY_SHARE, BUSY_WINDOW_S = 0.9, 5


class Second(msgspec.Struct, array_like=True):
    """A worker's second. ``cpu_share`` of a core; ``waited_share``: it could have run, but others had the core.
    ``late_ms``: the worst lateness of a send then; ``read_ms``: of a read; ``events``: sockets that had something."""

    at_s: float
    worker: int
    cpu_share: float
    waited_share: float
    open: int
    sent: int
    events: int
    late_ms: float
    read_ms: float


class WorkerHealth(msgspec.Struct):
    """One worker, over the whole run. ``planned``: what it was to send; ``shortened``: to fit a context.
    ``retried``: sent once more, since the server had just closed the connection. ``stamped``: reads that the kernel
    timed. ``read_counts``: buckets of ``loadtests.client.reading``."""

    worker: int
    planned: int = 0
    sent: int = 0
    shortened: int = 0
    retried: int = 0
    connections: int = 0
    reads: int = 0
    stamped: int = 0
    read_counts: list[int] = []
    read_worst_s: float = 0.0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    open_most: int = 0


def report(
    workers: Sequence[WorkerHealth], seconds: Sequence[Second], rows: Sequence[Row], lost: int = 0
) -> dict[str, Any]:
    """What the document has under ``generator``: figures, ``valid``, and ``reasons`` where it is not.

    ``lost``: workers that did not tell their end."""
    late_ms = sorted(row.late_us / 1e3 for row in rows if row.late_us is not None)
    ttft_ms = sorted(row.ttft_us / 1e3 for row in rows if row.ttft_us is not None)
    reads = Lateness()
    for worker in workers:
        if worker.read_counts:
            reads.merge(worker.read_counts, worker.read_worst_s)
    count, stamped = sum(worker.reads for worker in workers), sum(worker.stamped for worker in workers)
    figures = {
        "planned": sum(worker.planned for worker in workers),
        "sent": sum(worker.sent for worker in workers),
        "shortened": sum(worker.shortened for worker in workers),
        "retried": sum(worker.retried for worker in workers),
        "lost_workers": lost,
        "send_late_ms": _spread(late_ms),
        "read_late_ms": {
            "p50": round(reads.percentile_s(50) * 1e3, 3),
            "p99": round(reads.percentile_s(99) * 1e3, 3),
            "max": round(reads.worst_s * 1e3, 3),
        },
        "clock": "kernel" if count and stamped >= count * 0.99 else "process",
        "cpu_share": [round(worker.cpu_s / max(worker.wall_s, 1e-9), 3) for worker in workers],
        "busiest_share": round(busiest(seconds), 3),
        "waited_share": round(max((second.waited_share for second in seconds), default=0.0), 3),
        "most_open": sum(worker.open_most for worker in workers),
        "connections": sum(worker.connections for worker in workers),
    }
    reasons = list(_reasons(figures, ttft_ms, rows))
    return {"valid": not reasons, "reasons": reasons, **figures, "workers": [_shown(worker) for worker in workers]}


def _reasons(figures: dict[str, Any], ttft_ms: Sequence[float], rows: Sequence[Row]) -> Iterable[str]:
    if lost := figures["lost_workers"]:
        yield f"{lost} of the generator's workers did not tell their end: what they saw is missing"
    if (missing := figures["planned"] - figures["sent"]) > 0:
        yield f"{missing} of {figures['planned']} planned requests were never sent"
    if (missing := figures["sent"] - len(rows)) > 0:
        yield f"{missing} of {figures['sent']} requests were sent and have no end here"
    late_ms = figures["send_late_ms"].get("p99", 0.0)
    allowed_ms = max(LATE_P99_MS, LATE_OF_TTFT * (percentile(ttft_ms, 50) if ttft_ms else 0.0))
    if late_ms > allowed_ms:
        yield f"requests left late: p99 {late_ms:.1f} ms (at most {allowed_ms:.1f})"
    read_ms = figures["read_late_ms"]["p99"]
    readable_ms = READ_P99_MS * (KERNEL_SLACK if figures["clock"] == "kernel" else 1.0)
    if read_ms > readable_ms:
        yield f"answers were read late: p99 {read_ms:.1f} ms (at most {readable_ms:.1f})"
    if figures["busiest_share"] > BUSY_SHARE:
        share = figures["busiest_share"]
        yield f"a worker used {share:.0%} of its core for {BUSY_WINDOW_S} s (at most {BUSY_SHARE:.0%}); add --workers"
    starved = sum(row.error == NO_DESCRIPTORS for row in rows)
    if starved:
        yield f"{starved} requests found no descriptor left: raise `ulimit -n`"


def busiest(seconds: Sequence[Second]) -> float:
    """The largest mean share of a core that a worker used over BUSY_WINDOW_S, or over a run that is shorter."""
    worst = 0.0
    for worker in {second.worker for second in seconds}:
        shares = [second.cpu_share for second in sorted(seconds, key=_at) if second.worker == worker]
        size = min(BUSY_WINDOW_S, len(shares))
        worst = max(worst, *(sum(shares[at : at + size]) / size for at in range(len(shares) - size + 1)))
    return worst


def _at(second: Second) -> float:
    return second.at_s


def _spread(ordered: Sequence[float]) -> dict[str, float]:
    if not ordered:
        return {}
    return {
        "p50": round(percentile(ordered, 50), 3),
        "p99": round(percentile(ordered, 99), 3),
        "max": round(ordered[-1], 3),
    }


def _shown(worker: WorkerHealth) -> dict[str, Any]:
    return {name: value for name, value in msgspec.to_builtins(worker).items() if name != "read_counts"}
