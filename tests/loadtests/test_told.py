"""A run in words."""

from __future__ import annotations

from typing import Any

from loadtests.load.plan import following
from loadtests.outcome.health import WorkerHealth, report
from loadtests.outcome.rows import Row
from loadtests.outcome.slo import Good, Slo, judge
from loadtests.outcome.summary import summary
from loadtests.told import lines
from tests.loadtests.outcome.made import row


def run(rows: list[Row], suite: str = "spike", slo: Slo | None = None, **more: Any) -> dict[str, Any]:
    figures = summary(rows, following(("calm", 5.0, 1.0), ("spike", 5.0, 9.0)), 10.0, Good())
    health = report([WorkerHealth(0, planned=len(rows), sent=len(rows), wall_s=10.0, cpu_s=1.0)], [], rows)
    checks = [{"what": one.what, "measured": one.measured, "limit": one.limit, "kept": one.kept}
              for one in judge(slo or Slo(), figures)]  # fmt: skip
    found = {"suite": suite, "summary": figures, "generator": health, "verdict": {"checks": checks}, "marks": []}
    return found | more


def told(*args: Any, **more: Any) -> str:
    return "\n".join(lines(run(*args, **more)))


def test_the_whole_and_each_phase() -> None:
    text = told([row(ttft_ms=20.0), row(5000.0, ttft_ms=80.0, phase=1)]).splitlines()
    assert text[0] == (
        "spike: 2 requests, 0 failed | 0.2 requests/s, 1 tokens/s | TTFT p50/p99 20.0/80.0 ms | "
        "gap p50/p99 10.0/10.0 ms | E2E p50/p99 100.0/100.0 ms"
    )
    assert text[1].startswith("  calm: 1 requests, 0 failed | 0.2 requests/s")
    assert text[-1].startswith("  generator: 10% of a core (0% at its busiest), sends p99 0.00 ms late, ")


def test_failures_marks_and_missed_goals() -> None:
    marks = [
        {"at_s": 3.0, "what": "kill", "detail": "engine, process 7"},
        {"at_s": 1.0, "what": "reached", "detail": "x"},
    ]
    rows = [row(), row(error="overloaded", message="no room"), row(ttft_ms=None, gaps_ms=(), stream=False)]
    text = told(rows, slo=Slo(ttft_ms={"p99": 5.0}, gap_ms={"p99": 500.0}), marks=marks)
    assert "  1 x overloaded: no room" in text
    assert "  3.0 s: kill engine, process 7" in text
    assert "reached" not in text
    assert "  missed: ttft_ms.p99 is 50, the goal 5" in text
    assert "  missed: failed_share is 0.333333, the goal 0" in text
    assert "missed: gap_ms" not in text


def test_tiers_tenants_knees_and_the_services_own_time() -> None:
    tiers = told([row(tag="disk"), row(tag="gpu", timing_ms={"wake": 7.0})], "zero")
    assert "  disk: 1 requests" in tiers
    assert "  Server-Timing p50/p99 ms: wake 7.0/7.0" in tiers
    assert "  quiet: 1 requests" in told([row(tenant="quiet")], "noisy-neighbour")
    ramp = run([row()], "ramp")
    ramp["summary"]["knee"] = {"step": "8/s", "requests_per_s": 7.9, "because": "p99 is 4 times the first step's"}
    assert "  knee: 8/s (7.9 requests/s); beyond it: p99 is 4 times the first step's" in list(lines(ramp))


def test_an_invalid_run_says_so() -> None:
    assert "  NOT VALID: requests left late: p99 90.0 ms (at most 10.0)" in told([row(late_ms=90.0)])
