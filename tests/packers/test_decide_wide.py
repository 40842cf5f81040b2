"""Groups of GPUs, types, neighbours, cordoned GPUs, substitutes and KV caches that shrink: one decision at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from packers.decide import Policies
from packers.types import (
    Demand,
    Gpu,
    GpuId,
    Hold,
    Model,
    ModelId,
    Node,
    NodeId,
    Pool,
    PoolId,
    PoolKind,
    Refuse,
    Replica,
    ReplicaId,
    Snapshot,
    Start,
    StartTimes,
    Wake,
)
from tests.packers.worlds import ASLEEP, DRAINING, MIB, READY, STARTING, decide, model, reasons, replica, short, world


def of(name: str, mib: int = 60, **more: object) -> Model:
    """A model with one request held, and with these fields."""
    return replace(model(name, mib, held=1), **more)  # type: ignore[arg-type]


def group(name: str, gpus: str, mib: int = 60, **more: object) -> Replica:
    """A replica on several GPUs: "n/0 n/1"."""
    first, *others = gpus.split()
    one = replica(name, first, mib, **{key: value for key, value in more.items() if key != "replaces"})  # type: ignore[arg-type]
    return replace(one, peers=tuple(GpuId(gpu) for gpu in others))


def cordoned(of: Snapshot, *names: str) -> Snapshot:
    return replace(of, gpus=tuple(replace(gpu, cordoned=gpu.id in names) for gpu in of.gpus))


FOUR = {"n/0": 100, "n/1": 100, "o/0": 100, "o/1": 100}


# Groups


def test_a_group_starts_on_gpus_of_one_node() -> None:
    residents = [replica("x", "n/0", busy=1)]
    plan = decide(world(FOUR, [of("big", 80, tensor_parallel=2), model("x", in_flight=1)], residents))
    (start,) = plan.actions
    assert isinstance(start, Start)
    assert (start.gpu, start.peers) == ("o/0", ("o/1",))
    assert "80 MiB fit on o/0 and o/1, 20 MiB stay free" in start.reason


def test_a_group_that_no_node_could_hold_is_refused() -> None:
    (refuse,) = decide(world(FOUR, [of("big", 80, tensor_parallel=3)])).actions
    assert isinstance(refuse, Refuse)
    assert refuse.reason == "big needs 3 GPUs of one node with 80 MiB each, which no node has even when empty."


def test_evictions_for_a_group_clear_the_node_where_that_is_cheapest() -> None:
    residents = [
        replica("a", "n/0", idle_s=300),
        replica("b", "n/1", busy=1),
        replica("c", "o/0", idle_s=200),
        replica("d", "o/1", idle_s=100),
    ]
    models = [of("big", 80, tensor_parallel=2), model("a"), model("b", in_flight=1), model("c"), model("d")]
    plan = decide(world(FOUR, models, residents))
    assert short(plan) == ["sleep c-1 for big", "sleep d-1 for big", "hold big"]
    assert plan.actions[2].reason == "big waits for c and d to leave o/0 and o/1."


def test_a_group_is_evicted_as_a_whole() -> None:
    there = world({"n/0": 100, "n/1": 100}, [of("a", 80), model("big")], [group("big", "n/0 n/1")], host=120)
    assert short(decide(there)) == ["sleep big-1 for a", "hold a"]
    little = world({"n/0": 100, "n/1": 100}, [of("a", 80), model("big")], [group("big", "n/0 n/1")], host=119)
    assert short(decide(little)) == ["stop big-1 for a", "hold a"], "its two parts need 60 MiB of host RAM each"


def test_a_group_wakes_where_it_sleeps() -> None:
    there = world(FOUR, [of("big", tensor_parallel=2)], [group("big", "n/0 n/1", state=ASLEEP)])
    (wake,) = decide(there).actions
    assert isinstance(wake, Wake)
    assert (wake.gpu, wake.peers) == ("n/0", ("n/1",))


def test_a_group_is_woken_before_others_are_evicted_for_a_new_one() -> None:
    residents = [group("big", "n/0 n/1", state=ASLEEP), *(replica(f"x-{gpu}", gpu) for gpu in FOUR)]
    plan = decide(world(FOUR, [of("big", tensor_parallel=2), model("x", max_replicas=9)], residents))
    assert short(plan) == ["sleep x-n/0 for big", "sleep x-n/1 for big", "hold big"]


def test_a_hold_of_a_group_names_the_node_that_comes_closest() -> None:
    residents = [replica("x-9", "n/0", busy=1), *(replica(f"x-{place}", f"o/{place}", busy=1) for place in (0, 1))]
    there = world(FOUR, [of("big", 80, tensor_parallel=2), model("x", in_flight=3, max_replicas=3)], residents)
    (hold,) = decide(there).actions
    assert isinstance(hold, Hold)
    assert "big needs 2 GPUs of one node with 80 MiB each; n comes closest with 1 GPU that has room." in hold.reason


# Where a model may go


def test_a_type_is_kept_to() -> None:
    there = world({"n/0": 100, "n/1": 200}, [of("a", gpu_types=("H100",))])
    gpus = tuple(replace(gpu, name="H100" if gpu.id == "n/1" else "L4") for gpu in there.gpus)
    assert short(decide(replace(there, gpus=gpus))) == ["start a on n/1"]
    (refuse,) = decide(there).actions
    assert isinstance(refuse, Refuse)
    assert "of type H100, which no node has" in refuse.reason


def test_models_that_are_kept_apart_share_no_node() -> None:
    apart = of("a", anti_affinity=(ModelId("b"),))
    residents = [replica("b", "n/0", 20, busy=1)]
    assert short(decide(world(FOUR, [apart, model("b", in_flight=1)], residents))) == ["start a on o/0"]
    turned = [of("a"), replace(model("b", in_flight=1), anti_affinity=(ModelId("a"),))]
    assert short(decide(world(FOUR, turned, residents))) == ["start a on o/0"], "whichever of them says so"
    (hold,) = decide(world({"n/0": 100}, [apart, model("b", in_flight=1)], residents)).actions
    assert "at present every GPU is left out: kept apart by anti_affinity" in hold.reason


def test_two_that_start_in_one_plan_are_kept_apart_too() -> None:
    plan = decide(world(FOUR, [of("a", 20, anti_affinity=(ModelId("b"),)), of("b", 20)]))
    assert short(plan) == ["start a on n/0", "start b on o/0"]


def test_replicas_of_a_model_that_names_itself_spread_over_nodes() -> None:
    spread = replace(model("a", 20, held=64, max_replicas=3), anti_affinity=(ModelId("a"),), target_in_flight=32)
    assert short(decide(world(FOUR, [spread]))) == ["start a on n/0", "start a on o/0"]


def test_a_sleeping_neighbour_is_none_until_it_wakes() -> None:
    sleeper = replica("b", "n/0", 20, ASLEEP)
    apart = of("a", 60, anti_affinity=(ModelId("b"),))
    assert short(decide(world({"n/0": 100}, [apart, model("b", 20)], [sleeper]))) == ["start a on n/0"]
    plan = decide(world({"n/0": 100}, [replace(apart, priority=1), of("b", 20)], [sleeper]))
    assert short(plan) == ["start a on n/0", "hold b"]


def test_it_would_rather_be_near_its_kin() -> None:
    near = of("a", 20, affinity=(ModelId("b"),))
    there = world(FOUR, [near, model("b", in_flight=1)], [replica("b", "o/0", 60, busy=1)])
    assert short(decide(there)) == ["start a on o/0"]
    assert short(decide(world(FOUR, [of("a", 20, affinity=(ModelId("b"),)), model("b")], []))) == ["start a on n/0"]


def test_what_is_owned_comes_first_and_what_is_taken_away_last() -> None:
    gpus = (
        Gpu(GpuId("b/0"), NodeId("b"), 0, 100 * MIB, pool=PoolId("burst")),
        Gpu(GpuId("o/0"), NodeId("o"), 0, 100 * MIB),
        Gpu(GpuId("s/0"), NodeId("s"), 0, 100 * MIB, pool=PoolId("spot")),
    )
    pools = (
        Pool(PoolId("spot"), PoolKind.SPOT, price_per_gpu_hour=1.0, reclaims_per_hour=0.1),
        Pool(PoolId("burst"), PoolKind.BURST, price_per_gpu_hour=3.0),
    )
    nodes = tuple(Node(gpu.node, 0) for gpu in gpus)
    models = (of("a"), of("b"), of("c"))
    there = Snapshot("s", 1000.0, gpus, nodes, (), models, pools)
    assert short(decide(there)) == ["start a on o/0", "start b on s/0", "start c on b/0"]
    sure = tuple(replace(one, priority=1) for one in models)
    assert short(decide(replace(there, models=sure))) == ["start a on o/0", "start b on b/0", "start c on s/0"]


def test_compute_and_cpu_are_limits_as_memory_is() -> None:
    light = replace(model("a").footprint, compute_milli=600)
    resident = replace(replica("x", "n/0", 10, busy=1), footprint=replace(model("x", 10).footprint, compute_milli=500))
    there = world({"n/0": 100}, [of("a", footprint=light), model("x", 10, in_flight=1)], [resident])
    (hold,) = decide(there).actions
    assert "a needs 0.6 of a GPU's compute beside its memory, n/0 has 0.5 of its compute free." in hold.reason
    idle = replace(there, replicas=(replace(resident, in_flight=0),), models=(there.models[0], model("x", 10)))
    assert short(decide(idle)) == ["sleep x-1 for a", "hold a"]
    hungry = replace(model("a").footprint, cpu_milli=1500)
    cores = replace(world(FOUR, [of("a", footprint=hungry)]), nodes=(Node(NodeId("n"), 0, 1000), Node(NodeId("o"), 0)))
    assert short(decide(cores)) == ["start a on o/0"]


# Cordoned GPUs, and substitutes


def test_nothing_new_goes_to_a_cordoned_gpu() -> None:
    there = cordoned(world({"n/0": 100, "n/1": 200}, [of("a")]), "n/0")
    assert short(decide(there)) == ["start a on n/1"]
    (hold,) = decide(cordoned(there, "n/0", "n/1")).actions
    assert "at present every GPU is left out: cordoned" in hold.reason


def test_what_serves_on_a_cordoned_gpu_gets_a_substitute_and_the_rest_leaves() -> None:
    residents = [
        replica("busy", "n/0", 20, busy=1),
        replica("idle", "n/0", 20),
        replica("asleep", "n/0", 20, ASLEEP),
        replica("kept", "n/0", 20),
    ]
    models = [model("busy", 20, in_flight=1), model("idle", 20), model("asleep", 20), model("kept", 20, min_replicas=1)]
    plan = decide(cordoned(world({"n/0": 100, "n/1": 100}, models, residents), "n/0"))
    assert short(plan) == ["stop asleep-1", "stop idle-1", "start busy on n/1", "start kept on n/1"]
    assert [one.replaces for one in plan.actions if isinstance(one, Start)] == ["busy-1", "kept-1"]
    assert reasons(plan)["stop idle-1"] == "idle-1 leaves n/0, which is to be emptied."
    assert plan.actions[2].reason.startswith("busy gets a replica in place of busy-1 (n/0 is cordoned): 20 MiB fit")


def test_once_the_substitute_serves_the_old_one_finishes_what_it_has() -> None:
    old, new = replica("a-1", "n/0", busy=1), replace(replica("a-2", "n/1"), replaces=ReplicaId("a-1"))
    there = cordoned(world({"n/0": 100, "n/1": 100}, [model("a", in_flight=1)], [old, new]), "n/0")
    assert reasons(decide(there)) == {"stop a-1": "a-2 has taken the place of a-1."}
    starting = replace(there, replicas=(old, replace(new, state=STARTING)))
    assert short(decide(starting)) == [], "one substitute is enough"
    gone = replace(there, replicas=(replace(old, state=DRAINING), new))
    assert short(decide(gone)) == []


def test_the_old_one_and_its_substitute_count_once() -> None:
    grown = model("a", 20, in_flight=64, max_replicas=3)
    mine = [replica("a-1", "n/0", 20, busy=9), replica("a-2", "n/0", 20, busy=9)]
    new = replace(replica("a-3", "n/1", 20, STARTING), replaces=ReplicaId("a-1"))
    assert short(decide(world({"n/0": 100, "n/1": 100}, [replace(grown, min_replicas=3)], [*mine, new]))) == [
        "start a on n/0"
    ]


# Waking elsewhere


def test_a_model_that_may_wakes_on_another_gpu_of_its_node() -> None:
    residents = [replica("a", "n/0", state=ASLEEP, residue=5), replica("x", "n/0", 80, busy=1)]
    models = [of("a", wakes_anywhere=True), model("x", 80, in_flight=1)]
    there = world({"n/0": 100, "n/1": 100, "o/0": 60}, models, residents)
    plan = decide(there)
    (wake,) = plan.actions
    assert isinstance(wake, Wake)
    assert (wake.gpu, wake.peers) == ("n/1", ())
    assert wake.reason.endswith("a-1 sleeps on n/0, and wakes on n/1.")
    stays = replace(there, models=(of("a"), models[1]))
    assert short(decide(stays)) == ["start a on o/0"]


def test_room_is_made_for_a_wake_on_whichever_gpu_of_the_node_is_cheapest_to_clear() -> None:
    residents = [replica("a", "n/0", state=ASLEEP), replica("x", "n/0", 80, idle_s=5), replica("y", "n/1", idle_s=99)]
    models = [of("a", wakes_anywhere=True), model("x", 80), model("y")]
    plan = decide(world({"n/0": 100, "n/1": 100}, models, residents))
    assert short(plan) == ["sleep y-1 for a", "hold a"]


# KV caches


def test_a_kv_cache_shrinks_to_fit_and_takes_what_room_there_is() -> None:
    shrinks = replace(model("a", 80).footprint, kv_min_bytes=0)  # 20 MiB of KV cache wished for
    residents = [replica("x", "n/0", 30, busy=1)]
    models = [of("a", footprint=shrinks), model("x", 30, in_flight=1)]
    (start,) = decide(world({"n/0": 100}, models, residents)).actions
    assert isinstance(start, Start)
    assert start.footprint == replace(shrinks, kv_cache_bytes=10 * MIB)
    assert start.reason.endswith("70 MiB fit on n/0, 0 bytes stay free; its KV cache gets 10 MiB of 20 MiB.")
    (full,) = decide(world({"n/0": 100, "n/1": 100}, models, residents)).actions
    assert isinstance(full, Start)
    assert (full.gpu, full.footprint) == ("n/1", shrinks), "elsewhere it has what it wishes for"


def test_no_more_is_evicted_than_the_smallest_kv_cache_needs() -> None:
    shrinks = replace(model("a", 80).footprint, kv_min_bytes=0)
    residents = [replica("x", "n/0", 30, idle_s=300), replica("y", "n/0", 20, idle_s=100), replica("z", "n/0", 30)]
    models = [of("a", footprint=shrinks), model("x", 30), model("y", 20), model("z", 30)]
    assert short(decide(world({"n/0": 100}, models, residents))) == ["sleep y-1 for a", "sleep x-1 for a", "hold a"]


def shrinkable(name: str, mib: int = 80) -> Model:
    """A quarter of it is KV cache, which can be given up while it serves."""
    rigid = model(name, mib)
    return replace(rigid, footprint=replace(rigid.footprint, kv_min_bytes=0), resizes=True)


def test_serving_replicas_shrink_rather_than_that_somebody_is_evicted() -> None:
    elastic = replace(shrinkable("x"), demand=Demand(in_flight=1))
    residents = [replace(replica("x", "n/0", 80, busy=1), footprint=elastic.footprint), replica("idle", "n/1", 90)]
    models = [of("a", 40), elastic, model("idle", 90)]
    plan = decide(world({"n/0": 100, "n/1": 100}, models, residents))
    assert short(plan) == ["resize x-1 to 0", "hold a"]
    assert plan.actions[1].reason == "a waits for the KV cache of x to shrink on n/0."
    shrunk = replace(residents[0], footprint=replace(elastic.footprint, kv_cache_bytes=0))
    assert short(decide(world({"n/0": 100, "n/1": 100}, models, [shrunk, residents[1]]))) == ["start a on n/0"]


def test_a_kv_cache_grows_back_into_what_nobody_else_wants() -> None:
    elastic = shrinkable("x")
    small = replace(replica("x", "n/0", 80, busy=1), footprint=replace(elastic.footprint, kv_cache_bytes=0))
    there = world({"n/0": 100}, [elastic, model("a", 35)], [small])
    assert short(decide(there)) == ["resize x-1 to 20"]
    both = world({"n/0": 100}, [elastic, of("a", 35)], [small])
    assert short(decide(both)) == ["start a on n/0", "resize x-1 to 5"]
    waits = world({"n/0": 100}, [elastic, of("b", 100)], [small])
    assert short(decide(waits)) == ["hold b"]


# What would help


@pytest.mark.parametrize(
    ("blocker", "host", "words"),
    [
        (model("b", 80, in_flight=1), 1000, "if b slept: 2.1 s to wake it again"),
        (model("b", 80, in_flight=1), 10, "if b stopped: 40 s to start it again"),
        (model("b", 80, in_flight=1, can_sleep=False), 1000, "if b stopped: 40 s to start it again"),
    ],
)
def test_a_hold_says_what_it_would_cost_to_make_room(blocker: Model, host: int, words: str) -> None:
    slow = replace(blocker, startup=StartTimes(40.0, 2.1))
    there = world({"n/0": 100}, [of("a"), slow], [replica("b", "n/0", 80, READY, busy=1)], host=host)
    assert decide(there).actions[0].reason.endswith(f"It would fit on n/0 {words}.")


# Autoscaling


def test_another_autoscaling_policy_counts_otherwise_and_wants_to_be_told_next_time() -> None:
    busy = replace(model("a", 20, in_flight=9, max_replicas=9), target_in_flight=10)
    load = replace(busy.load, arrivals=99, concurrency_60s=40.0, concurrency_6s=5.0)
    there = world({"n/0": 100}, [replace(busy, load=load)], [replica("a", "n/0", 20, busy=9)])
    assert not decide(there).actions
    plan = decide(there, Policies(scaling="concurrency"))
    assert short(plan)[0] == "start a on n/0"
    assert "40.0 requests at a time" in plan.actions[0].reason
    ((name, memory),) = plan.memories
    assert (name, memory.count) == ("a", 6)


def test_the_last_replica_stays_for_its_ttl_on_what_is_owned_and_leaves_what_is_paid_by_the_second() -> None:
    there = world({"n/0": 100}, [model("a", ttl_s=600)], [replica("a", "n/0", idle_s=50)])
    assert short(decide(there, Policies(scaling="concurrency"))) == []
    rented = replace(there.gpus[0], pool=PoolId("burst"))
    paid = replace(there, gpus=(rented,), pools=(Pool(PoolId("burst"), PoolKind.BURST, 3.0),))
    zero = replace(there.models[0].scale_memory, zero_s=900.0)
    paid = replace(paid, models=(replace(there.models[0], scale_memory=zero),))
    assert short(decide(paid, Policies(scaling="concurrency"))) == ["sleep a-1"]
