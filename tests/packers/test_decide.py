"""One decision at a time: who starts, wakes, waits, or is turned away."""

from __future__ import annotations

import pytest

from packers.decide import Policies, UnknownPolicy
from packers.ledger import OverCapacity
from packers.types import Hold, Refuse, Start
from tests.packers.worlds import (
    ASLEEP,
    DEAD,
    DRAINING,
    MIB,
    NOW_S,
    STARTING,
    decide,
    model,
    reasons,
    replica,
    short,
    world,
)


def test_nothing_to_do_is_an_empty_plan() -> None:
    plan = decide(world({"n/0": 100}, [model("a")], [replica("a", "n/0")]))
    assert (plan.snapshot_id, plan.actions) == ("s1", ())
    assert decide(world({})).actions == ()


def test_a_held_request_starts_its_model_where_it_fits_best() -> None:
    plan = decide(world({"n/0": 200, "n/1": 100}, [model("a", held=3)]))
    assert short(plan) == ["start a on n/1"]
    (start,) = plan.actions
    assert isinstance(start, Start)
    assert start.reason == "a has no replica and 3 requests in flight or held: 60 MiB fit on n/1, 40 MiB stay free."
    assert [(one.gpu, one.score) for one in start.candidates] == [("n/1", 200.0), ("n/0", 700.0)]


def test_the_placement_policy_is_picked_by_name() -> None:
    there = world({"n/0": 200, "n/1": 100}, [model("a", held=3)])
    assert short(decide(there, Policies(placement="first-fit"))) == ["start a on n/0"]


@pytest.mark.parametrize(("field", "known"), [("placement", "best-fit, "), ("eviction", "")])
def test_an_unknown_policy_is_named_with_those_there_are(field: str, known: str) -> None:
    with pytest.raises(UnknownPolicy, match=f"policies.{field}: 'magic' is unknown; choose one of {known}"):
        Policies(placement="magic") if field == "placement" else Policies(eviction="magic")


def test_a_starting_replica_is_on_its_way_so_nothing_more_is_done() -> None:
    assert short(decide(world({"n/0": 100}, [model("a", held=30)], [replica("a", "n/0", state=STARTING)]))) == []


def test_min_replicas_are_started_without_being_asked_for() -> None:
    plan = decide(world({"n/0": 100, "n/1": 100}, [model("a", min_replicas=2, max_replicas=2)]))
    assert short(plan) == ["start a on n/0", "start a on n/1"]
    assert "replica 2 of 2 replicas (min_replicas is 2)" in plan.actions[1].reason


def test_an_operator_s_wake_starts_a_model() -> None:
    plan = decide(world({"n/0": 100}, [model("a", operator_wake=True)]))
    assert short(plan) == ["start a on n/0"]
    assert "an operator asked for it" in plan.actions[0].reason


def test_two_models_never_get_the_same_memory() -> None:
    plan = decide(world({"n/0": 100}, [model("a", held=1), model("b", held=1)]))
    assert short(plan) == ["start a on n/0", "hold b"]


def test_higher_priority_then_the_longest_wait_then_the_id_come_first() -> None:
    late, early = model("a", held=1, waited_s=1), model("b", held=1, waited_s=5)
    assert short(decide(world({"n/0": 100}, [late, early])))[0] == "start b on n/0"
    vip = model("c", held=1, waited_s=0, priority=1)
    assert short(decide(world({"n/0": 100}, [late, early, vip])))[0] == "start c on n/0"
    assert short(decide(world({"n/0": 100}, [model("z", held=1), model("y", held=1)])))[0] == "start y on n/0"


# Sleeping replicas


def test_a_sleeping_replica_is_woken_rather_than_a_new_one_started() -> None:
    asleep = replica("a", "n/0", state=ASLEEP, residue=5)
    plan = decide(world({"n/0": 60, "n/1": 60}, [model("a", held=1, residue=5)], [asleep]))
    assert short(plan) == ["wake a-1"]
    assert plan.actions[0].reason.startswith("a has no replica and 1 request in flight or held: a-1 sleeps on n/0")


def test_of_two_sleepers_the_one_that_fits_best_wakes() -> None:
    mine = [replica("a-1", "n/0", state=ASLEEP), replica("a-2", "n/1", state=ASLEEP)]
    assert short(decide(world({"n/0": 100, "n/1": 80}, [model("a", held=1)], mine))) == ["wake a-2"]


def test_a_sleeper_whose_gpu_is_full_stays_while_a_new_one_starts_where_there_is_room() -> None:
    residents = [replica("a", "n/0", state=ASLEEP), replica("b", "n/0")]
    there = world({"n/0": 100, "n/1": 100}, [model("a", held=1), model("b")], residents)
    assert short(decide(there)) == ["start a on n/1"]


def test_once_the_new_one_serves_the_sleeper_goes() -> None:
    mine = [replica("a-1", "n/0", state=ASLEEP), replica("a-2", "n/1", busy=1)]
    plan = decide(world({"n/0": 100, "n/1": 100}, [model("a", in_flight=1)], mine))
    assert short(plan) == ["stop a-1"]
    assert plan.actions[0].reason == "a, asleep on n/0 and unused for 10 s, is not kept any longer."


def test_without_room_elsewhere_the_sleeper_s_gpu_is_cleared_for_it() -> None:
    residents = [
        replica("a", "n/0", state=ASLEEP),
        replica("young", "n/0", idle_s=1),
        replica("old", "n/1", idle_s=99),
    ]
    there = world({"n/0": 100, "n/1": 100}, [model("a", held=1), model("young"), model("old")], residents)
    assert short(decide(there)) == ["sleep young-1 for a", "hold a"]


def test_one_that_falls_asleep_is_woken_afterwards_rather_than_started_elsewhere() -> None:
    mine = replica("a", "n/0", state=DRAINING, to=ASLEEP)
    plan = decide(world({"n/0": 100, "n/1": 100}, [model("a", held=1)], [mine]))
    assert short(plan) == ["hold a"]
    assert plan.actions[0].reason == "a waits for a-1 to fall asleep on n/0; then it wakes."


def test_one_that_still_answers_before_it_sleeps_is_not_waited_for() -> None:
    mine = replica("a", "n/0", state=DRAINING, to=ASLEEP, busy=1)
    assert short(decide(world({"n/0": 100, "n/1": 100}, [model("a", held=1)], [mine]))) == ["start a on n/1"]


def test_one_that_is_being_stopped_cannot_be_woken() -> None:
    mine = replica("a", "n/0", state=ASLEEP, to=DEAD)
    assert short(decide(world({"n/0": 100}, [model("a", held=1)], [mine]))) == ["start a on n/0"]


def test_a_sleeper_waits_for_what_drains_beside_it_rather_than_starting_elsewhere() -> None:
    residents = [replica("a", "n/0", state=ASLEEP), replica("b", "n/0", state=DRAINING, to=ASLEEP)]
    there = world({"n/0": 100, "n/1": 100}, [model("a", held=1), model("b")], residents)
    plan = decide(there)
    assert short(plan) == ["hold a"]
    assert plan.actions[0].reason == "a waits for b to leave n/0."


# Waiting


def test_room_that_drains_is_waited_for_and_kept() -> None:
    residents = [replica("x", "n/0", state=DRAINING, to=ASLEEP), replica("y", "n/1", 90)]
    models = [model("a", 60, held=1, waited_s=2), model("small", 30, held=1, waited_s=1), model("x"), model("y", 90)]
    plan = decide(world({"n/0": 100, "n/1": 100}, models, residents))
    assert short(plan) == ["hold a", "start small on n/0"], "40 MiB are left beside the 60 that a will get"
    assert plan.actions[0].reason == "a waits for x to leave n/0."


def test_nobody_of_lower_rank_takes_what_somebody_waits_for() -> None:
    residents = [replica("x", "n/0", 60, state=DRAINING, to=ASLEEP)]
    models = [model("a", 90, held=1, waited_s=2), model("small", 30, held=1, waited_s=1), model("x")]
    plan = decide(world({"n/0": 100}, models, residents))
    assert short(plan) == ["hold a", "hold small"], "40 MiB are free, but a needs them"
    assert "Memory there is promised to a." in plan.actions[1].reason


def test_after_a_failed_start_the_next_one_waits_its_time() -> None:
    there = world({"n/0": 100}, [model("a", held=1, retry_at_s=NOW_S + 5)])
    assert reasons(decide(there)) == {"hold a": "a waits before its next start: the last one failed."}
    assert short(decide(world({"n/0": 100}, [model("a", held=1, retry_at_s=NOW_S)]))) == ["start a on n/0"]


def test_a_hold_names_what_is_in_the_way_and_what_would_help() -> None:
    residents = [replica("b", "n/0", 50, busy=2), replica("p", "n/0", 30, pinned=True)]
    plan = decide(world({"n/0": 100}, [model("a", held=1), model("b", 50, in_flight=2), model("p", 30)], residents))
    (hold,) = plan.actions
    assert isinstance(hold, Hold)
    assert hold.reason == (
        "a needs 60 MiB of GPU memory; n/0 comes closest with 20 MiB free of 100 MiB: 40 MiB short. "
        "In the way on n/0: b (busy) and p (pinned). It would fit on n/0 if b slept: 1 s to wake it again."
    )
    assert hold.no_fit is not None
    assert (hold.no_fit.ever, hold.no_fit.short_bytes) == (True, 40 * MIB)


def test_where_pinned_ones_bar_the_way_no_hope_is_given() -> None:
    plan = decide(world({"n/0": 100}, [model("a", held=1)], [replica("p", "n/0", 50, pinned=True)]))
    assert plan.actions[0].reason.endswith("In the way on n/0: p (pinned).")


def test_a_hold_says_the_same_as_long_as_nothing_changes() -> None:
    residents = [replica("b", "n/0", busy=2)]
    models = [model("a", held=1), model("b", in_flight=2)]
    first = decide(world({"n/0": 100}, models, residents))
    later = decide(world({"n/0": 100}, models, residents, now_s=NOW_S + 3))
    assert first.actions == later.actions


# Never


def test_a_model_larger_than_any_gpu_is_refused_with_figures() -> None:
    plan = decide(world({"n/0": 1024, "n/1": 2048}, [model("huge", 4096, held=1)]))
    (refuse,) = plan.actions
    assert isinstance(refuse, Refuse)
    assert "needs 4 GiB" in refuse.reason
    assert "largest GPU (n/1) has only 2 GiB" in refuse.reason
    assert (refuse.no_fit.ever, refuse.no_fit.largest_gpu_bytes) == (False, 2048 * MIB)


def test_without_any_gpu_it_waits_for_one() -> None:
    plan = decide(world({}, [model("a", held=1)]))
    assert short(plan) == ["hold a"]
    assert "no GPU at present" in plan.actions[0].reason


def test_growing_is_never_refused() -> None:
    """Its card grew beyond every GPU while the old replica serves."""
    plan = decide(world({"n/0": 100}, [model("a", 200, held=99, max_replicas=5)], [replica("a", "n/0", busy=9)]))
    assert short(plan) == ["hold a"]


def test_a_model_without_replicas_allowed_is_said_to_be_off() -> None:
    plan = decide(world({"n/0": 100}, [model("a", held=1, max_replicas=0)]))
    assert reasons(plan) == {"hold a": "a is switched off: its max_replicas is 0."}


# Growing


def test_load_starts_as_many_as_it_needs() -> None:
    plan = decide(world({"n/0": 100, "n/1": 100, "n/2": 100}, [model("a", held=70, max_replicas=9)]))
    assert short(plan) == ["start a on n/0", "start a on n/1", "start a on n/2"]
    assert "a gets replica 2 of 3 replicas (70 requests in flight or held)" in plan.actions[1].reason


def test_first_replicas_come_before_anybody_grows() -> None:
    models = [model("a", held=70, max_replicas=3, priority=5, waited_s=99), model("b", held=1)]
    plan = decide(world({"n/0": 100, "n/1": 100, "n/2": 100}, models))
    assert short(plan) == ["start a on n/0", "start b on n/1", "start a on n/2", "hold a"]


def test_second_replicas_come_before_third_ones() -> None:
    models = [model(name, 30, held=70, max_replicas=3) for name in ("a", "b")]
    assert short(decide(world({"n/0": 150}, models))) == [
        "start a on n/0",
        "start b on n/0",
        "start a on n/0",
        "start b on n/0",
        "start a on n/0",
        "hold b",
    ]


def test_growing_does_not_fill_the_gpu_that_a_first_replica_waits_for() -> None:
    residents = [replica("b", "n/0", 60, busy=9)]
    models = [model("large", 100, held=1), model("b", 60, in_flight=64, max_replicas=2), model("s", 30, held=1)]
    plan = decide(world({"n/0": 100}, models, residents))
    assert short(plan) == ["hold large", "start s on n/0", "hold b"], "first replicas may still use the rest"
    small = model("b", 30, in_flight=64, max_replicas=2)
    plan = decide(world({"n/0": 100}, [models[0], small], [replica("b", "n/0", 30, busy=9)]))
    assert short(plan) == ["hold large", "hold b"]
    plan = decide(world({"n/0": 100}, [small], [replica("b", "n/0", 30, busy=9)]))
    assert short(plan) == ["start b on n/0"]


# Letting go


def test_an_unused_replica_falls_asleep_after_its_ttl() -> None:
    plan = decide(world({"n/0": 100}, [model("a", ttl_s=60)], [replica("a", "n/0", idle_s=75)]))
    assert reasons(plan) == {"sleep a-1": "a on n/0 was not used for 75 s (ttl 60 s)."}


def test_an_unused_replica_that_cannot_sleep_is_stopped() -> None:
    plan = decide(world({"n/0": 100}, [model("a", ttl_s=60, can_sleep=False)], [replica("a", "n/0", idle_s=75)]))
    assert reasons(plan) == {
        "stop a-1": "a on n/0 was not used for 75 s (ttl 60 s); stopped because its model cannot sleep."
    }


def test_without_host_ram_an_unused_replica_is_stopped() -> None:
    plan = decide(world({"n/0": 100}, [model("a", ttl_s=60)], [replica("a", "n/0", idle_s=75)], host=10))
    assert short(plan) == ["stop a-1"]


def test_a_sleeper_unused_for_longer_makes_room_first_and_the_sleep_follows() -> None:
    residents = [replica("a", "n/0", idle_s=75), replica("b", "n/0", 30, ASLEEP, idle_s=90)]
    models = [model("a", ttl_s=60), model("b", 30)]
    plan = decide(world({"n/0": 100}, models, residents, host=60))
    assert reasons(plan) == {"stop b-1": "b, asleep and unused for 90 s, makes room in host RAM for a to sleep."}
    ending = [residents[0], replica("b", "n/0", 30, ASLEEP, idle_s=90, to=DEAD)]
    assert short(decide(world({"n/0": 100}, models, ending, host=60))) == []
    assert short(decide(world({"n/0": 100}, models, residents[:1], host=60))) == ["sleep a-1"]


def test_a_forgotten_sleeper_is_stopped() -> None:
    plan = decide(world({"n/0": 100}, [model("a", ttl_s=6)], [replica("a", "n/0", state=ASLEEP, idle_s=75)]))
    assert short(plan) == ["stop a-1"]


def test_min_replicas_stay_ready_and_are_woken_when_asleep() -> None:
    of = model("a", min_replicas=1, ttl_s=6)
    assert short(decide(world({"n/0": 100}, [of], [replica("a", "n/0", idle_s=999)]))) == []
    assert short(decide(world({"n/0": 100}, [of], [replica("a", "n/0", state=ASLEEP, idle_s=999)]))) == ["wake a-1"]


def test_replicas_of_a_model_that_left_the_catalog_are_stopped_when_idle() -> None:
    residents = [
        replica("gone-1", "n/0", 20),
        replica("gone-2", "n/0", 20, busy=1),
        replica("gone-3", "n/0", 20, ASLEEP),
        replica("gone-4", "n/0", 20, STARTING),
        replica("gone-5", "n/0", 10, DRAINING, to=DEAD),
        replica("gone-6", "n/0", 10, pinned=True),
    ]
    plan = decide(world({"n/0": 100}, [], residents))
    assert sorted(short(plan)) == ["stop gone-1", "stop gone-3"]
    assert plan.actions[0].reason == "gone is not in the catalog any more."


# Whatever comes in


def test_the_order_in_which_the_snapshot_lists_things_changes_nothing() -> None:
    models = [model("a", held=1), model("b"), model("c", held=1)]
    residents = [replica("b-1", "n/0"), replica("b-2", "n/1")]
    there = world({"n/0": 100, "n/1": 100}, models, residents)
    turned = world({"n/1": 100, "n/0": 100}, models[::-1], residents[::-1])
    assert decide(there).actions == decide(turned).actions


def test_a_snapshot_that_contradicts_itself_is_an_error() -> None:
    with pytest.raises(OverCapacity):
        decide(world({"n/0": 100}, [model("a")], [replica("a-1", "n/0"), replica("a-2", "n/0")]))
