"""The comparison's document: figures over all requests of all passes, and whether it may be believed."""

from __future__ import annotations

from typing import Any

from loadtests.compare.outcome import outcome
from loadtests.outcome.slo import NO_SLO, Slo
from tests.loadtests.compare.made import run


def compared(*targets: tuple[str, list[dict[str, Any]]], passes: int = 2, slo: Slo = NO_SLO, **missing: str) -> Any:
    return outcome(dict(targets), missing, passes, slo)


FAST, SLOW = ("fast", [run([10, 20]), run([30, 40])]), ("slow", [run([100, 200]), run([300, 400])])


def test_figures_are_over_all_requests_of_all_passes() -> None:
    made = compared(FAST, SLOW)
    fast, slow = made["targets"]
    assert fast["figures"]["requests"] == 4
    assert (fast["figures"]["ttft_ms"]["p50"], fast["figures"]["ttft_ms"]["max"]) == (20, 40)
    assert slow["figures"]["ttft_ms"]["mean"] == 250
    assert fast["figures"]["requests_per_s"] == 0.2  # four in two passes of 10 s
    assert [each["ttft_ms"]["p50"] for each in slow["passes"]] == [100, 300]
    assert [each["load_1m"] for each in slow["passes"]] == [0.5, 0.5]


def test_a_comparison_that_is_whole_is_ok_and_has_one_plan() -> None:
    made = compared(FAST, SLOW)
    assert made["ok"]
    assert len(made["plan"]) == 1
    assert (made["suite"], made["settings"]["models"], made["missing"]) == ("steady", ("m",), {})
    assert "salt" not in made["settings"], "each run has its own"


def test_runs_that_asked_something_else_cannot_be_compared() -> None:
    made = compared(FAST, ("other", [run([10, 20], asked=3), run([10, 20], asked=3)]))
    assert len(made["plan"]) == 2
    assert not made["ok"]


def test_one_run_that_is_not_valid_spoils_its_target() -> None:
    made = compared(FAST, ("starved", [run([10, 20]), run([10, 20], never_sent=1)]))
    fast, starved = made["targets"]
    assert (fast["valid"], starved["valid"], made["ok"]) == (True, False, False)
    assert starved["reasons"] == ["1 of 3 planned requests were never sent"]


def test_goals_are_judged_over_all_passes() -> None:
    made = compared(FAST, SLOW, slo=Slo(ttft_ms={"p50": 50}))
    assert [target["kept"] for target in made["targets"]] == [True, False]
    (missed,) = made["targets"][1]["missed"]
    assert (missed["what"], missed["measured"], missed["limit"]) == ("ttft_ms.p50", 200, 50)
    assert not made["ok"]


def test_failures_keep_no_goal() -> None:
    made = compared(FAST, ("failing", [run([10], error="timeout", message="too late"), run([10])]))
    failing = made["targets"][1]
    assert failing["figures"]["failed"] == 1
    assert (failing["kept"], failing["valid"], made["ok"]) == (False, True, False)


def test_who_has_not_all_passes_is_not_whole() -> None:
    assert not compared(FAST, ("gone", [run([10, 20])]), gone="it ended")["ok"]
    assert not compared(FAST, absent="not there")["ok"]
    assert not compared(("short", [run([10])]))["ok"]


def test_nothing_measured_is_a_document_too() -> None:
    made = compared(a="no", b="no")
    assert (made["targets"], made["ok"], made["suite"]) == ([], False, None)


def test_a_run_in_which_nothing_was_asked_is_not_valid() -> None:
    (target,) = compared(("silent", [run([], asked=1)]), passes=1)["targets"]
    assert (target["valid"], target["reasons"]) == (False, ["nothing was asked"])
