"""The decision record: each decision with an estimate, a price and what else was possible; later how it came out."""

from __future__ import annotations

import pytest

from models.control.journal import EXPLAINED_A_STEP
from models.control.messages import CatalogChanged
from models.store.records import DecisionRecord
from packers.types import ModelId
from tests.models.control.scene import MIB, Scene, card

pytestmark = pytest.mark.anyio


async def served(scene: Scene, *models: str) -> None:
    for model in models:
        scene.hold(model)
        await scene.run(2)


def outcome_of(scene: Scene, decision: DecisionRecord) -> DecisionRecord:
    (found,) = [each for each in scene.store.decisions if each.of == decision.key]
    return found


async def test_a_start_is_estimated_and_says_later_what_it_took() -> None:
    scene = Scene([card("a", 60)])
    await served(scene, "a")
    (start,) = scene.decided("start")
    assert (start.details["estimate_s"], start.details["estimated_from"]) == (10.0, "assumed"), "none was measured"
    assert start.details["cost"] == {"load_s": 10.0, "moved_bytes": 60 * MIB, "delays": {}}
    ready = outcome_of(scene, start)
    assert (ready.action, ready.replica_id) == ("ready", "a-1")
    assert ready.details["took_s"] == pytest.approx(1.0, abs=0.03)
    assert (ready.details["estimate_s"], ready.details["decided"]) == (10.0, "start")


async def test_the_second_start_is_estimated_from_the_first_and_the_error_is_counted() -> None:
    scene = Scene([card("a", 60)])
    await served(scene, "a")
    scene.order("stop", "a")
    await scene.run(1)
    scene.fleet.start_s = 1.5
    await served(scene, "a")
    _, again = scene.decided("start")
    assert again.details["estimated_from"] == "measured"
    assert again.details["estimate_s"] == pytest.approx(1.0, abs=0.03)
    assert outcome_of(scene, again).details["took_s"] == pytest.approx(1.5, abs=0.03)
    await scene.run(2)
    (start,) = [each for each in scene.store.meters.estimates if each.transition == "start"]
    assert start.counts[-1] == 1, "the first was only assumed"
    assert start.sum_s == pytest.approx(0.5, abs=0.06)
    assert start.took_s - start.estimated_s == pytest.approx(0.5, abs=0.06)


async def test_a_model_that_never_started_is_estimated_from_others_by_size_unless_it_is_much_larger() -> None:
    sizes = {"a": 10, "b": 20, "c": 40, "d": 30, "huge": 300}
    scene = Scene([card(name, mib) for name, mib in sizes.items()], gpus_mib=(100, 300))
    for name, start_s in (("a", 1.0), ("b", 2.0), ("c", 4.0)):
        scene.fleet.start_s = start_s
        scene.hold(name)
        await scene.run(4.5)
    scene.fleet.start_s = 0.1
    for name in ("d", "huge"):
        await served(scene, name)
    told = {each.model_id: each.details for each in scene.decided("start")}
    assert [told[name]["estimated_from"] for name in sizes] == ["assumed", "others", "others", "others", "assumed"]
    assert told["d"]["estimate_s"] == pytest.approx(3.0, abs=0.1), "0.1 s for each MiB"
    assert scene.controller.world.meters().estimates == (), "only what was measured is held against the clock"


async def test_a_new_controller_estimates_from_what_its_predecessor_measured() -> None:
    scene = Scene([card("a", 60), card("b", 60)])
    await served(scene, "a")
    await scene.restart_controller(remembers=True)
    await served(scene, "b")
    start = next(each for each in scene.decided("start") if each.model_id == "b")
    assert start.details["estimated_from"] == "others"
    assert start.details["estimate_s"] == pytest.approx(1.0, abs=0.03)


async def test_an_eviction_is_priced_as_a_swap_and_comes_out_as_asleep() -> None:
    scene = Scene([card("a", 60), card("b", 50)])
    await served(scene, "a", "b", "a", "b", "a", "b")
    first, *_, last = [each for each in scene.decided("sleep") if each.evicted_for == "b"]
    cost = first.details["cost"]
    assert cost["moved_bytes"] == (60 + 50) * MIB, "what leaves, and what comes for it"
    assert cost["load_s"] == pytest.approx(1.0, abs=0.03), "as long as a took, which is as large"
    assert cost["delays"] == {"a": cost["back_s"]}
    learned = last.details
    assert learned["estimated_from"] == "measured"
    assert learned["cost"]["load_s"] == pytest.approx(0.1, abs=0.03), "b sleeps there: it only wakes"
    assert learned["cost"]["back_s"] == pytest.approx(0.1, abs=0.03)
    asleep = outcome_of(scene, last)
    assert asleep.action == "asleep"
    assert asleep.details["took_s"] == pytest.approx(learned["estimate_s"], abs=0.03)
    assert asleep.details["drained_s"] >= 0


async def test_a_model_with_another_replica_that_serves_delays_nobody_when_one_leaves() -> None:
    scene = Scene([card("a", 60, max_replicas=2, min_replicas=0, target_in_flight=1)], gpus_mib=(100, 100))
    scene.hold("a")
    await scene.run(2)
    scene.busy = {"a-1": 3}
    await scene.run(3)
    assert sorted(scene.states().values()) == ["ready", "ready"]
    scene.busy = {}
    scene.order("drain", gpu="n/gpu-1")
    await scene.run(3)
    (stop,) = scene.decided("stop", "sleep")
    assert stop.details["cost"]["delays"] == {}


async def test_an_operators_order_is_a_decision_with_an_outcome_too() -> None:
    scene = Scene([card("a", 60)])
    await served(scene, "a")
    scene.order("sleep", "a")
    await scene.run(1)
    scene.order("stop", "a")
    await scene.run(1)
    (sleep,), (stop,) = scene.decided("sleep"), scene.decided("stop")
    assert (sleep.reason, stop.reason) == ("sleep by operator", "stop by operator")
    assert [outcome_of(scene, each).action for each in (sleep, stop)] == ["asleep", "stopped"]


async def test_so_is_what_a_changed_card_ends() -> None:
    scene = Scene([card("a", 60)])
    await served(scene, "a")
    scene.cards = [card("a", 70)]
    scene.controller.post(CatalogChanged(config=None))  # type: ignore[arg-type]
    await scene.run(1)
    (stop,) = scene.decided("stop")
    assert stop.reason == "its card changed"
    assert outcome_of(scene, stop).action == "stopped"


async def test_a_start_that_fails_says_so_of_its_decision() -> None:
    scene = Scene([card("a", 60)])
    scene.fleet.fail_start["a"] = "the weights are not there"
    scene.hold("a")
    await scene.run(1.5)
    start = scene.decided("start")[0]
    failed = outcome_of(scene, start)
    assert (failed.action, failed.details["decided"]) == ("failed", "start")
    assert failed.details["took_s"] == pytest.approx(1.0, abs=0.05)
    assert scene.controller.world.meters().estimates == ()


async def test_loads_on_one_gpu_wait_for_each_other_and_the_estimate_says_so() -> None:
    scene = Scene([card("a", 40), card("b", 40)])
    for model in ("a", "b"):
        await served(scene, model)
        scene.order("stop", model)
        await scene.run(1)
    scene.hold("a")
    scene.hold("b")
    await scene.run(4)
    one, other = scene.decided("start")[-2:]
    assert one.details["estimate_s"] == pytest.approx(1.0, abs=0.05)
    assert other.details["queue_s"] == pytest.approx(1.0, abs=0.05)
    assert other.details["estimate_s"] == pytest.approx(2.0, abs=0.1)
    assert outcome_of(scene, other).details["took_s"] == pytest.approx(2.0, abs=0.1)


async def test_a_hold_says_what_would_end_it() -> None:
    scene = Scene([card("a", 60), card("b", 60)])
    await served(scene, "a")
    scene.busy = {"a-1": 1}
    scene.hold("b")
    await scene.run(0.1)
    (hold,) = scene.decided("hold")
    assert hold.details["counterfactuals"] == ["fits on n/gpu-0 if a (busy) sleeps: 1 s to wake it again"]


async def test_a_refusal_says_what_would_be_enough() -> None:
    scene = Scene([card("huge", 500)])
    scene.hold("huge")
    await scene.run(0.1)
    (refusal,) = scene.decided("refuse")
    assert refusal.details["counterfactuals"] == [
        "fits on a GPU with 500 MiB; the largest that it may go to has 100 MiB"
    ]


async def test_an_eviction_says_who_else_could_have_gone_and_a_start_where_else_it_would_fit() -> None:
    scene = Scene([card("a", 60), card("b", 60), card("c", 60)], gpus_mib=(100, 100))
    await served(scene, "a", "b", "c")
    (first, *_) = scene.decided("start")
    (text,) = first.details["counterfactuals"]
    other = "n/gpu-1" if first.gpu == "n/gpu-0" else "n/gpu-0"
    assert text.startswith(f"else it would fit on {other} (score ")
    (eviction,) = scene.decided("sleep")
    (else_,) = eviction.details["counterfactuals"]
    spared = "b" if eviction.model_id == "a" else "a"
    where = "n/gpu-1" if eviction.gpu == "n/gpu-0" else "n/gpu-0"
    assert else_.startswith(f"else c fits on {where} if {spared} sleeps")


async def test_a_wake_says_what_a_start_would_have_taken() -> None:
    scene = Scene([card("a", 60)])
    await served(scene, "a")
    scene.order("sleep", "a")
    await scene.run(1)
    await served(scene, "a")
    (wake,) = scene.decided("wake")
    assert wake.details["counterfactuals"] == ["a start instead takes 1 s, waking it 1 s"]
    assert outcome_of(scene, wake).action == "ready"


async def test_however_many_wait_only_a_few_are_explained_in_a_step() -> None:
    names = [f"m{number}" for number in range(3 * EXPLAINED_A_STEP)]
    scene = Scene([card("a", 60), *(card(name, 60) for name in names)])
    await served(scene, "a")
    scene.busy = {"a-1": 1}
    for name in names:
        scene.hold(name)
    await scene.run(0.01)
    holds = scene.decided("hold")
    assert len(holds) == len(names)
    assert sum("counterfactuals" in each.details for each in holds) == EXPLAINED_A_STEP


async def test_an_outcome_finds_its_decision_when_the_controller_was_replaced_meanwhile() -> None:
    scene = Scene([card("a", 60)])
    scene.hold("a")
    await scene.run(0.5)
    (start,) = scene.decided("start")
    await scene.restart_controller()
    await scene.run(2)
    ready = outcome_of(scene, start)
    assert ready.action == "ready"
    assert ready.details["took_s"] > 0.5, "from the decision on, not from the restart"
    assert scene.controller.world.replicas[next(iter(scene.controller.world.replicas))].decision == ""


async def test_every_record_has_a_key_of_its_own_and_outcomes_name_decisions_that_are_there() -> None:
    scene = Scene([card("a", 60), card("b", 60), card("c", 30)])
    await served(scene, "a", "b", "c", "a", "b", "c")
    keys = [each.key for each in scene.store.decisions]
    assert len(set(keys)) == len(keys)
    outcomes = [each for each in scene.store.decisions if each.of is not None]
    assert {each.of for each in outcomes} <= set(keys)
    assert len({each.of for each in outcomes}) == len(outcomes), "one for each"
    timed = [each for each in scene.store.decisions if "estimate_s" in each.details and each.of is None]
    assert {each.key for each in timed} == {each.of for each in outcomes}, "all came out"
    assert scene.controller.world.of_model(ModelId("a"))
