"""R11: what is too much is refused at once, and what is admitted is served as if nothing were."""

from __future__ import annotations

from tests.gateway.plane.promises.crowd import at_once
from tests.gateway.plane.promises.town import Town
from tests.gateway.plane.protocol.house import wait_until

WORK_S = 0.1
SLOTS = 4
QUEUE = 4
REFUSED_WITHIN_S = 0.1  # promised
A_LOADED_MACHINE_S = 0.25  # 300 clients and a gateway share its cores with other tests


def test_r11_bounded_queues_quick_refusals_and_no_slower_service(town: Town) -> None:
    town.open(hold_limit=QUEUE, hold_timeout_s=10.0)
    town.route(town.model("m", slots=SLOTS))
    request = town.request(how={"work_s": WORK_S})
    unloaded_s = max(took_s for took_s, _ in at_once(town, [request] * SLOTS))
    answers = at_once(town, [request] * 300)
    served = sorted(took_s for took_s, answer in answers if answer.status == 200)
    refused = [(took_s, answer) for took_s, answer in answers if answer.status != 200]
    assert {answer.status for _, answer in refused} <= {429, 503}
    assert SLOTS + QUEUE <= len(served) <= 3 * (SLOTS + QUEUE)
    assert served[-1] <= 2 * unloaded_s + A_LOADED_MACHINE_S
    took = sorted(took_s for took_s, _ in refused)
    assert took[len(took) // 2] <= REFUSED_WITHIN_S + A_LOADED_MACHINE_S
    assert took[-1] <= 1.0
    for _, answer in refused:
        assert int(answer.header("retry-after") or 0) >= 1
        answer.error()


def test_r11_the_engine_never_gets_more_than_it_has_slots(town: Town) -> None:
    town.open(hold_limit=500, hold_timeout_s=20.0)
    town.route(town.model("m", slots=SLOTS))
    callers = [town.caller().send(town.request(how={"work_s": 0.02})) for _ in range(100)]
    most = 0
    engine = town.engines[0]
    while (stats := engine.stats())["asked"] < 100:
        most = max(most, stats["answering"])
    assert 1 <= most <= SLOTS
    assert {caller.answer().status for caller in callers} == {200}
    for caller in callers:
        caller.close()


def test_a_worker_that_is_full_says_so(town: Town) -> None:
    """More connections than it may have: the next one gets an answer rather than none."""
    town.open(max_connections=50)
    town.route(town.model("m"))
    idle = [town.caller() for _ in range(50)]
    with town.caller() as one_more:
        answer = one_more.ask(town.request())
        assert answer.status == 503
        answer.error()
        assert one_more.is_closed()
    for caller in idle:
        caller.close()

    def let_in() -> bool:
        with town.caller() as caller:
            return caller.ask(town.request()).status == 200

    wait_until(let_in)
