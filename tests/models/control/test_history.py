"""What is known of a model's past."""

from __future__ import annotations

import msgspec
import pytest

from models.control.demand import Traffic
from models.control.footprints import Held, Revision
from models.control.history import FRESH_S, History, Remembered
from models.control.scribe import REMEMBER_EVERY_S
from packers.load import NO_LOAD, NO_MEMORY, Aim, Load, ScaleMemory
from packers.types import DEFAULT_START, Demand, ModelId, Plan, ReplicaId, StartTimes
from packers.usage import UNUSED, Usage
from tests.models.control.scene import Scene, card

pytestmark = pytest.mark.anyio
A, B = ModelId("a"), ModelId("b")
AIM = Aim()


IDLE = Demand()


def told(history: History, traffic: dict[ModelId, Traffic], now: float) -> None:
    history.take(traffic, now, lambda model: AIM)


def observed(history: History, now: float, demand: Demand = IDLE, aim: Aim = AIM) -> tuple[Usage, Load]:
    history.observe(A, demand, aim, now)
    return history.usage(A), history.load(A)


def test_arrivals_reach_usage_and_load_of_their_model_alone() -> None:
    history = History()
    told(history, {A: Traffic(arrived=3)}, now=100.0)
    for model in (A, B):
        history.observe(model, IDLE, AIM, now=100.0)
    assert history.usage(A) != UNUSED
    assert history.load(A).arrivals == 3
    assert (history.usage(B), history.load(B)) == (UNUSED, NO_LOAD)


def test_a_model_that_was_never_called_has_no_past() -> None:
    assert observed(History(), 5.0) == (UNUSED, NO_LOAD)


def test_measured_service_times_count() -> None:
    history = History()
    told(history, {A: Traffic(arrived=10)}, now=100.0)
    _, before = observed(history, 100.5)
    told(history, {A: Traffic(finished=1000, busy_s=20_000.0)}, now=101.0)
    _, after = observed(history, 101.0)
    assert after.service_s > 2 * before.service_s


def test_what_is_in_flight_and_held_is_observed() -> None:
    history = History()
    told(history, {A: Traffic(arrived=4)}, now=100.0)
    observed(history, 100.0, Demand(in_flight=3, held=1))
    assert observed(history, 102.0, Demand(in_flight=3, held=1))[1].concurrency_6s > 0


def test_without_news_nothing_is_worked_out_again_for_a_while() -> None:
    history = History()
    told(history, {A: Traffic(arrived=4)}, now=100.0)
    first = observed(history, 100.0)
    assert observed(history, 100.0 + FRESH_S / 2)[1] is first[1]
    assert observed(history, 100.0 + FRESH_S)[1] is not first[1]


@pytest.mark.parametrize("news", ["arrival", "demand", "aim"])
def test_news_count_at_once(news: str) -> None:
    history = History()
    told(history, {A: Traffic(arrived=4)}, now=100.0)
    _, first = observed(history, 100.0)
    if news == "arrival":
        told(history, {A: Traffic(arrived=1)}, now=100.1)
    demand = Demand(in_flight=1) if news == "demand" else IDLE
    aim = Aim(start_s=77.0) if news == "aim" else AIM
    assert observed(history, 100.1, demand, aim)[1] is not first


def test_a_model_is_followed_with_its_own_aim_from_its_first_request_on() -> None:
    """What its first requests taught would be lost, were the number of slots told only later."""
    history, aim = History(), Aim(slots=1)
    history.take({A: Traffic(arrived=1)}, 100.0, lambda model: aim)
    history.observe(A, IDLE, aim, now=101.0)
    late_share = history.load(A).reserve.late_share
    assert late_share == late_share, "it must be a number"


def test_what_autoscaling_wants_to_remember_is_kept_until_the_model_leaves() -> None:
    history = History()
    assert history.memory(A) == NO_MEMORY
    memory = ScaleMemory(count=3)
    history.decided(Plan("1", (), memories=((A, memory),)))
    history.decided(Plan("2", ()))
    assert history.memory(A) == memory
    told(history, {A: Traffic(arrived=1)}, now=1.0)
    history.took(A, "wake", "host", 3.0)
    history.forget(A)
    assert history.memory(A) == NO_MEMORY
    assert history.startup(A) == DEFAULT_START
    assert history.usage(A) == UNUSED


def test_a_new_controller_knows_what_the_last_one_did() -> None:
    old, new = History(), History()
    told(old, {A: Traffic(arrived=5)}, now=100.0)
    told(old, {A: Traffic(arrived=1)}, now=160.0)
    old.took(A, "start", "disk", 0.4)
    old.took(A, "wake", "host", 0.1)
    old.meters.quarantine(A)
    old.footprints.learn(Revision("r"), ReplicaId("a-1"), Held(1, 2, 3), served=True)
    past = msgspec.json.decode(msgspec.json.encode(old.remembered(200.0)), type=Remembered)
    new.recall(past, now=210.0)
    assert observed(new, 210.0)[0] == observed(old, 210.0)[0]
    assert new.startup(A) == StartTimes(disk_s=0.4, host_s=0.1)
    assert new.meters.quarantined(A) == 1
    assert new.footprints.get(Revision("r")) == old.footprints.get(Revision("r")) is not None
    told(new, {A: Traffic(arrived=1)}, now=220.0)
    assert observed(new, 220.0)[0].arrivals == 7


def test_what_a_controller_has_seen_itself_counts_more_than_what_it_is_told() -> None:
    old, new = History(), History()
    for history, took_s, arrived in ((old, 9.0, 1), (new, 0.5, 3)):
        told(history, {A: Traffic(arrived=arrived)}, now=100.0)
        history.took(A, "start", "disk", took_s)
    new.recall(old.remembered(100.0), now=100.0)
    assert new.startup(A).disk_s == 0.5
    assert observed(new, 100.0)[0].arrivals == 3


async def test_the_loop_keeps_what_it_knows_every_now_and_then() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(REMEMBER_EVERY_S + 1, step_s=0.25)
    assert scene.store.past is not None
    assert scene.store.past.usage["a"].arrivals == 1
    assert scene.store.past.costs_s["a"]["start_disk"] == pytest.approx((1.0,), abs=0.3)


def test_a_model_that_was_put_down_by_hand_has_no_load_until_it_is_called_again() -> None:
    book = History()
    called = {ModelId("m"): Traffic(arrived=30)}
    for second in range(5):
        book.take(called, float(second), lambda _: AIM)
        book.observe(ModelId("m"), Demand(in_flight=10), AIM, float(second))
    assert book.load(ModelId("m")).arrivals == 150
    book.calm(ModelId("m"))
    assert (book.load(ModelId("m")), book.memory(ModelId("m"))) == (NO_LOAD, NO_MEMORY)
    book.take(called, 6.0, lambda _: AIM)
    book.observe(ModelId("m"), Demand(in_flight=10), AIM, 6.0)
    assert book.load(ModelId("m")).arrivals == 180  # nothing that was learned is lost
