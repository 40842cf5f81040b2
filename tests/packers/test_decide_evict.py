"""Making room: who is sent away for whom, and what everybody is told."""

from __future__ import annotations

from packers.types import Sleep, Stop
from tests.packers.worlds import ASLEEP, DEAD, DRAINING, MIB, STARTING, decide, model, reasons, replica, short, world


def test_the_least_recently_used_idle_model_goes_to_sleep_for_the_one_that_is_asked_for() -> None:
    residents = [replica("old", "n/0", idle_s=300), replica("young", "n/1", idle_s=5)]
    models = [model("need", held=2), model("old"), model("young")]
    plan = decide(world({"n/0": 100, "n/1": 100}, models, residents))
    assert short(plan) == ["sleep old-1 for need", "hold need"]
    sleep, hold = plan.actions
    assert sleep.reason == (
        "old makes room on n/0 for need (2 requests in flight or held), which needs 60 MiB there: "
        "unused for 5 min, the least recently used that may go."
    )
    assert isinstance(sleep, Sleep)
    assert [(one.gpu, one.score) for one in sleep.candidates] == [("n/0", 700.0), ("n/1", 995.0)]
    assert hold.reason == "need waits for old to leave n/0."


def test_the_start_follows_when_the_memory_is_free() -> None:
    models = [model("need", held=2), model("old")]
    drains = world({"n/0": 100}, models, [replica("old", "n/0", state=DRAINING, to=ASLEEP)])
    assert short(decide(drains)) == ["hold need"]
    asleep = world({"n/0": 100}, models, [replica("old", "n/0", state=ASLEEP)])
    assert short(decide(asleep)) == ["start need on n/0"]


def test_the_candidates_tell_why_other_gpus_were_no_choice() -> None:
    residents = [replica("idle", "n/0"), replica("busy", "n/1", busy=1), replica("p", "n/3", pinned=True)]
    models = [model("need", held=1), model("idle"), model("busy", in_flight=1)]
    plan = decide(world({"n/0": 100, "n/1": 100, "n/2": 10, "n/3": 100}, models, residents))
    (sleep, _) = plan.actions
    assert isinstance(sleep, Sleep)
    assert {one.gpu: one.rejected for one in sleep.candidates} == {
        "n/0": None,
        "n/1": "busy is busy",
        "n/2": "too small: 10 MiB",
        "n/3": "p is pinned",
    }


def test_only_what_is_missing_is_evicted() -> None:
    residents = [
        replica("old", "n/0", 30, idle_s=300),
        replica("mid", "n/0", 30, idle_s=200),
        replica("young", "n/0", 30, idle_s=5),
    ]
    models = [model("need", 40, held=1), model("old", 30), model("mid", 30), model("young", 30)]
    assert short(decide(world({"n/0": 100}, models, residents))) == ["sleep old-1 for need", "hold need"]


def test_what_drains_already_is_counted_before_more_is_evicted() -> None:
    residents = [replica("x", "n/0", 50, DRAINING, to=ASLEEP), replica("y", "n/0", 50)]
    models = [model("need", 100, held=1), model("x", 50), model("y", 50)]
    plan = decide(world({"n/0": 100}, models, residents))
    assert short(plan) == ["sleep y-1 for need", "hold need"]
    assert plan.actions[1].reason == "need waits for x and y to leave n/0."


def test_pinned_busy_starting_and_wanted_ones_stay_whoever_asks() -> None:
    residents = [
        replica("pinned", "n/0", pinned=True),
        replica("busy", "n/1", busy=1),
        replica("fresh", "n/2", state=STARTING),
        replica("wanted", "n/3"),
    ]
    models = [model("need", held=1, priority=9), model("busy", in_flight=1), model("fresh"), model("wanted", held=1)]
    plan = decide(world({f"n/{place}": 100 for place in range(4)}, models, residents))
    assert short(plan) == ["hold need"]


def test_one_victim_is_not_promised_twice() -> None:
    residents = [replica("old", "n/0", idle_s=300), replica("young", "n/1", idle_s=5)]
    models = [model("m", held=1), model("need", held=1), model("old"), model("young")]
    plan = decide(world({"n/0": 100, "n/1": 100}, models, residents))
    assert short(plan) == ["sleep old-1 for m", "hold m", "sleep young-1 for need", "hold need"]


def test_two_models_can_each_evict_one_on_the_same_gpu() -> None:
    residents = [replica("old", "n/0", 50, idle_s=300), replica("young", "n/0", 50, idle_s=5)]
    models = [model("m", 50, held=1), model("need", 50, held=1), model("old", 50), model("young", 50)]
    plan = decide(world({"n/0": 100}, models, residents))
    assert short(plan) == ["sleep old-1 for m", "hold m", "sleep young-1 for need", "hold need"]


def test_a_model_spares_no_more_than_it_can_however_many_ask() -> None:
    residents = [replica("kept-1", "n/0", idle_s=300), replica("kept-2", "n/1", idle_s=5)]
    models = [model("m", held=1), model("need", held=1), model("kept", min_replicas=1, max_replicas=2)]
    plan = decide(world({"n/0": 100, "n/1": 100}, models, residents))
    assert short(plan) == ["sleep kept-1 for m", "hold m", "hold need"]


def test_a_model_that_cannot_sleep_is_stopped() -> None:
    plan = decide(world({"n/0": 100}, [model("need", held=1), model("a", can_sleep=False)], [replica("a", "n/0")]))
    assert short(plan) == ["stop a-1 for need", "hold need"]
    assert plan.actions[0].reason.endswith("stopped because its model cannot sleep.")


def test_two_victims_share_host_ram_for_one_and_the_dearer_gets_it() -> None:
    residents = [replica("old", "n/0", 50, idle_s=300), replica("young", "n/0", 50, idle_s=5)]
    models = [model("need", 100, held=1), model("old", 50), model("young", 50)]
    plan = decide(world({"n/0": 100}, models, residents, host=70))
    assert short(plan) == ["sleep young-1 for need", "stop old-1 for need", "hold need"]


def test_what_sleepers_leave_behind_must_not_take_the_room_that_is_made() -> None:
    residents = [replica("a", "n/0", 100, residue=10)]
    models = [model("need", 95, held=1), model("a", 100, residue=10)]
    plan = decide(world({"n/0": 100}, models, residents))
    assert short(plan) == ["stop a-1 for need", "hold need"]
    assert "asleep it would still hold 10 MiB there" in plan.actions[0].reason
    models = [model("need", 90, held=1), model("a", 100, residue=10)]
    assert short(decide(world({"n/0": 100}, models, residents)))[0] == "sleep a-1 for need"


def test_one_victim_sleeps_and_the_other_stops_when_only_one_residue_has_room() -> None:
    residents = [replica("old", "n/0", 50, idle_s=300, residue=5), replica("young", "n/0", 50, idle_s=5, residue=5)]
    models = [model("need", 94, held=1), model("old", 50, residue=5), model("young", 50, residue=5)]
    plan = decide(world({"n/0": 100}, models, residents))
    assert short(plan) == ["sleep young-1 for need", "stop old-1 for need", "hold need"]


def test_sleepers_are_ended_for_their_residue_when_nothing_else_helps() -> None:
    residents = [replica("a", "n/0", 60, ASLEEP, residue=30), replica("b", "n/0", 60, ASLEEP, residue=20)]
    models = [model("need", 80, held=1), model("a"), model("b")]
    plan = decide(world({"n/0": 100}, models, residents))
    assert short(plan) == ["stop a-1 for need", "hold need"]
    assert "asleep and unused for 10 s" in plan.actions[0].reason


def test_two_sleepers_in_demand_do_not_block_each_other() -> None:
    residents = [replica("a", "n/0", 90, ASLEEP, residue=20), replica("b", "n/0", 90, ASLEEP, residue=20)]
    models = [model("a", 90, held=1, waited_s=2, residue=20), model("b", 90, held=1, waited_s=1, residue=20)]
    plan = decide(world({"n/0": 100}, models, residents))
    assert short(plan) == ["stop b-1 for a", "hold a", "hold b"]


def test_host_ram_is_made_by_ending_an_older_sleeper_and_the_victim_stays_until_then() -> None:
    residents = [replica("a", "n/0", idle_s=75), replica("z", "n/1", 30, ASLEEP, idle_s=900)]
    models = [model("need", 100, held=1), model("a"), model("z", 30)]
    there = {"n/0": 100, "n/1": 50}
    plan = decide(world(there, models, residents, host=60))
    assert short(plan) == ["stop z-1 for need", "hold need"]
    assert plan.actions[1].reason == "need waits for a to leave n/0."
    ending = [residents[0], replica("z", "n/1", 30, ASLEEP, idle_s=900, to=DEAD)]
    assert short(decide(world(there, models, ending, host=60))) == ["hold need"]
    assert short(decide(world(there, models, residents[:1], host=60))) == ["sleep a-1 for need", "hold need"]


def test_a_sleeping_victim_that_makes_host_room_is_stopped_once() -> None:
    """Both victims of one eviction: the sleeper's residue is needed, and so is its host RAM."""
    residents = [replica("a", "n/0", 70, idle_s=75), replica("z", "n/0", 60, ASLEEP, idle_s=900, residue=30, host=60)]
    models = [model("need", 100, held=1), model("a", 70), model("z", residue=30)]
    plan = decide(world({"n/0": 100}, models, residents, host=70))
    assert short(plan) == ["stop z-1 for need", "hold need"]
    ending = [residents[0], replica("z", "n/0", 60, ASLEEP, idle_s=900, residue=30, host=60, to=DEAD)]
    assert short(decide(world({"n/0": 100}, models, ending, host=70))) == ["hold need"]
    assert short(decide(world({"n/0": 100}, models, residents[:1], host=70))) == ["sleep a-1 for need", "hold need"]


def test_also_when_the_dearest_victim_is_the_one_that_needs_the_host_ram() -> None:
    residents = [replica("kept", "n/0", 70), replica("z", "n/0", 60, ASLEEP, idle_s=900, residue=30, host=60)]
    models = [model("vip", 100, held=1, priority=1), model("kept", 70, min_replicas=1), model("z", residue=30)]
    plan = decide(world({"n/0": 100}, models, residents, host=70))
    assert short(plan) == ["stop z-1 for vip", "hold vip"]


# Priority and min_replicas


def test_an_idle_model_of_higher_priority_does_not_keep_a_request_waiting() -> None:
    plan = decide(world({"n/0": 100}, [model("need", held=1), model("vip", priority=5)], [replica("vip", "n/0")]))
    assert short(plan) == ["sleep vip-1 for need", "hold need"]


def test_but_lower_priority_goes_first() -> None:
    residents = [replica("vip", "n/0", idle_s=300), replica("plain", "n/1", idle_s=5)]
    models = [model("need", held=1), model("vip", priority=5), model("plain")]
    there = world({"n/0": 100, "n/1": 100}, models, residents)
    assert short(decide(there)) == ["sleep plain-1 for need", "hold need"]


def test_min_replicas_yield_to_strictly_higher_priority_only() -> None:
    kept = [replica("kept", "n/0")]
    equal = decide(world({"n/0": 100}, [model("need", held=1), model("kept", min_replicas=1)], kept))
    assert short(equal) == ["hold need"]
    assert "kept (kept by min_replicas)" in equal.actions[0].reason
    higher = decide(world({"n/0": 100}, [model("need", held=1, priority=1), model("kept", min_replicas=1)], kept))
    assert short(higher) == ["sleep kept-1 for need", "hold need"]


def test_once_evicted_by_a_higher_priority_the_kept_one_does_not_fight_back() -> None:
    models = [model("vip", priority=1), model("kept", min_replicas=1)]
    plan = decide(world({"n/0": 100}, models, [replica("vip", "n/0"), replica("kept", "n/0", state=ASLEEP)]))
    assert short(plan) == ["hold kept"]
    assert "vip (of higher priority)" in plan.actions[0].reason


def test_keeping_warm_evicts_what_nobody_uses() -> None:
    plan = decide(world({"n/0": 100}, [model("kept", min_replicas=1), model("a")], [replica("a", "n/0")]))
    assert short(plan) == ["sleep a-1 for kept", "hold kept"]


# Growing


def test_growing_evicts_idle_models_but_nobody_with_demand() -> None:
    residents = [
        replica("a-1", "n/0", busy=40),
        replica("idle", "n/1"),
        replica("b-1", "n/2", busy=1),
        replica("b-2", "n/3"),
    ]
    models = [model("a", in_flight=96, max_replicas=9), model("idle"), model("b", in_flight=1, max_replicas=2)]
    plan = decide(world({f"n/{place}": 100 for place in range(4)}, models, residents))
    assert short(plan) == ["sleep idle-1 for a", "hold a"], "b-2 is spare, but b has demand"


def test_growing_evicts_nobody_on_the_gpu_that_a_first_replica_waits_for() -> None:
    residents = [replica("b", "n/0", 40, busy=1), replica("idle", "n/0", 30), replica("a-1", "n/1", 30, busy=9)]
    models = [model("b", 40, in_flight=1), model("idle", 30), model("a", 30, in_flight=64, max_replicas=2)]
    there = {"n/0": 70, "n/1": 30}
    assert short(decide(world(there, models, residents))) == ["sleep idle-1 for a", "hold a"]
    waits = decide(world(there, [*models, model("large", 70, held=1)], residents))
    assert short(waits) == ["hold large", "hold a"]


def test_a_first_replica_takes_what_another_model_has_beyond_its_demand() -> None:
    residents = [replica("b-1", "n/0", busy=1), replica("b-2", "n/1")]
    models = [model("a", held=1), model("b", in_flight=1, max_replicas=2)]
    plan = decide(world({"n/0": 100, "n/1": 100}, models, residents))
    assert short(plan) == ["sleep b-2 for a", "hold a"]


def test_a_replica_that_expires_in_the_same_plan_makes_the_room() -> None:
    models = [model("need", held=1), model("a", ttl_s=5)]
    plan = decide(world({"n/0": 100}, models, [replica("a", "n/0", idle_s=75)]))
    assert reasons(plan) == {
        "sleep a-1": "a on n/0 was not used for 75 s (ttl 5 s).",
        "hold need": "need waits for a to leave n/0.",
    }


def test_the_no_fit_goes_with_the_hold_of_an_eviction() -> None:
    plan = decide(world({"n/0": 100}, [model("need", held=1), model("a")], [replica("a", "n/0")]))
    hold = plan.actions[-1]
    assert not isinstance(hold, Sleep | Stop)
    no_fit = getattr(hold, "no_fit", None)
    assert no_fit is not None
    assert (no_fit.gpu, no_fit.short_bytes) == ("n/0", 20 * MIB)
