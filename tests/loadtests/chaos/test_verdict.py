from __future__ import annotations

import pytest

from loadtests.chaos.calls import How
from loadtests.chaos.faults import FAULTS
from loadtests.chaos.recovery import Recovered
from loadtests.chaos.verdict import PRICES, ROTATION_S, SLACK_S, UNCONNECTED_S, broken
from tests.loadtests.chaos.results import STRUCK_S, call, result


def test_every_fault_has_its_price() -> None:
    assert PRICES.keys() == FAULTS.keys()


def test_the_figures_are_those_of_the_promises() -> None:
    """Seconds; R1: start time + 10, R3: out of rotation within 10, R4: 1, R5: 10."""
    assert PRICES["engine-9"].recover_s == 10.0 + SLACK_S
    assert (ROTATION_S, PRICES["engine-stop"].first_byte_s) == (10.0, 10.0 + SLACK_S)
    assert UNCONNECTED_S == 1.0
    assert PRICES["controller-9"].recover_s == 10.0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_cell_in_which_all_went_well_is_green(fault: str) -> None:
    assert broken(result(fault)) == []


@pytest.mark.parametrize("how", [How.WRONG_STATUS, How.UNCONNECTED, How.BROKEN, How.SILENT, How.ERROR_EVENT, How.CUT])
def test_nobody_may_fail_when_the_controller_dies(how: How) -> None:
    (why,) = broken(result("controller-9", "load", call(how, text="no luck")))
    assert f"{how}: no luck" in why


def test_a_stream_may_end_in_order_with_its_engine_and_nothing_else_may() -> None:
    ended = call(How.ERROR_EVENT, streamed=True)
    assert broken(result("engine-9", "load", ended)) == []
    assert broken(result("engine-9", "load", call(How.CUT, streamed=True))) != []
    assert broken(result("engine-9", "load", call(How.BROKEN))) != []


def test_calls_that_a_dying_worker_had_may_end_with_it() -> None:
    had = call(How.CUT, began_s=STRUCK_S - 0.3)
    queued = call(How.BROKEN, began_s=STRUCK_S + 0.1, took_s=0.0)
    assert broken(result("worker-9", "load", had, queued)) == []


def test_a_second_after_a_worker_died_everybody_is_served() -> None:
    late = call(How.UNCONNECTED, began_s=STRUCK_S + 1.2)
    assert broken(result("worker-9", "load", late)) != []


def test_who_needs_a_start_may_be_refused_in_order_who_is_served_may_not() -> None:
    assert broken(result("redis-silent", "start", call(How.REFUSED, "cold"))) == []
    assert broken(result("redis-silent", "start", call(How.REFUSED, "steady"))) != []


def test_a_replica_that_hangs_keeps_nobody_waiting_for_long() -> None:
    assert broken(result("engine-stop", "load", call(took_s=11.0))) == []
    (why,) = broken(result("engine-stop", "load", call(took_s=14.0)))
    assert "14.0 s" in why


def test_too_late_and_never() -> None:
    late = Recovered({"controller": 12.0, "scaling": None}, {"scaling": "nobody has got an answer"})
    assert broken(result("controller-9", recovered=late)) == [
        "controller took 12.0 s, 10 s are allowed",
        "not recovered (scaling): nobody has got an answer",
    ]


def test_what_else_makes_a_cell_red() -> None:
    spoiled = result(stuck=2, call_s=None, again_s=None, lost=["steady-1"], moved=["to make room"])
    spoiled.seen.wrong = {"2 engines of cold-1 live at once": 3}
    assert broken(spoiled) == [
        "2 callers never got an answer of any kind",
        "no call of steady was answered after it",
        "nothing can be started any more",
        "2 engines of cold-1 live at once (3 times)",
        "steady-1 did not survive it",
        "a replica of steady was taken away: to make room",
    ]


def test_one_that_was_not_played_says_why() -> None:
    assert broken(result(problem="no engine was made")) == ["it could not be played: no engine was made"]


def test_like_reasons_are_told_once() -> None:
    many = [call(How.BROKEN, text="reset") for _ in range(40)]
    (why,) = broken(result("gcs-9", "load", *many))
    assert why.endswith("(40 times)")
