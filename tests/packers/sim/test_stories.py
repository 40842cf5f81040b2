"""What happens in small worlds, second by second."""

from __future__ import annotations

import math

import pytest

from packers.sim import GpuJoins, GpuLost, SimError, StartUp, TierTime
from packers.sim.options import GpuReclaimed
from packers.types import Gpu, GpuId, NodeId, Pool, PoolId, PoolKind, Replica, ReplicaId, ReplicaState
from tests.packers.sim.scenes import FOREVER, GB, deeds, model, play, poisson, requests, seconds, waits, world


def test_a_model_from_zero() -> None:
    found = play(requests((5, "a", 2), (7, "a"), (20, "a")), world([model("a", 4)]))
    assert waits(found) == [10, 8, 0]
    assert deeds(found) == ["5 start a-1"]
    assert (found.requests, found.served, found.delayed, found.queued) == (3, 3, 2, 0)
    assert (found.starts_disk, found.starts_host, found.load_s) == (1, 0, 10)
    assert found.delayed_share == pytest.approx(2 / 3)
    assert found.waits.max_s == 10
    assert found.waits.over_5s_share == pytest.approx(2 / 3)


def test_a_model_that_is_ready_waits_for_nothing() -> None:
    there = world([model("a", 4)])
    ready = Replica(ReplicaId("a-0"), there.models[0].id, GpuId("n/0"), ReplicaState.READY, there.models[0].footprint)
    found = play(requests((0, "a"), (0, "a"), (3, "a")), world([model("a", 4)], replicas=(ready,)))
    assert waits(found) == [0, 0, 0]
    assert found.loads == 0


def test_one_sleeps_for_the_other_and_wakes_quickly() -> None:
    found = play(requests((0, "a"), (20, "b"), (40, "a")), world([model("a", 6), model("b", 6)]))
    assert deeds(found) == ["0 start a-1", "20 sleep a-1", "20 start b-1", "40 sleep b-1", "40 wake a-1"]
    assert waits(found) == [10, 10, 1]
    assert (found.starts_disk, found.starts_host, found.evictions, found.sleeps) == (2, 1, 2, 2)
    assert found.load_s == 21


def test_without_host_ram_it_is_stopped() -> None:
    found = play(requests((0, "a"), (20, "b"), (40, "a")), world([model("a", 6), model("b", 6)], host=0))
    assert deeds(found)[1] == "20 stop a-1"
    assert (found.starts_disk, found.starts_host, found.stops) == (3, 0, 2)


def test_leaving_takes_its_time_and_memory_is_free_only_then() -> None:
    slow = StartUp(TierTime(10), TierTime(1), TierTime(3))
    found = play(requests((0, "a"), (20, "b")), world([model("a", 6), model("b", 6)], startup=slow))
    assert deeds(found) == ["0 start a-1", "20 sleep a-1", "23 start b-1"]
    assert waits(found) == [10, 13]


def test_the_least_recently_used_goes() -> None:
    models = [model(name, 4) for name in "abc"]
    calls = requests((0, "a"), (20, "b"), (40, "a"), (50, "c"))
    assert "50 sleep b-1" in deeds(play(calls, world(models)))


def test_a_busy_one_is_not_evicted() -> None:
    """b waits until a's long request has ended."""
    found = play(requests((0, "a", 30), (20, "b")), world([model("a", 6), model("b", 6)]))
    assert deeds(found) == ["0 start a-1", "40 sleep a-1", "40 start b-1"]
    assert waits(found) == [10, 30]


def test_once_somebody_has_waited_for_too_long_it_finishes_what_it_has_and_goes() -> None:
    """From 50 on a takes no more requests: those that come meanwhile wait for their turn, behind b."""
    calls = requests((0, "a", 60), (20, "b"), (55, "a"))
    found = play(calls, world([model("a", 6), model("b", 6)]))
    assert deeds(found)[:3] == ["0 start a-1", "50 sleep a-1", "70 start b-1"]
    assert waits(found)[:2] == [10, 60]
    assert (found.served, found.failed) == (3, 0)


def test_idle_for_its_ttl_it_falls_asleep_and_is_forgotten_later() -> None:
    calls = requests((0, "a"), (25, "a"), (1000, "b"))
    found = play(calls, world([model("a", 3, ttl_s=30), model("b", 3)]))
    assert deeds(found) == ["0 start a-1", "56 sleep a-1", "326 stop a-1", "1000 start b-1"]
    assert seconds(found.hours.replica) == pytest.approx(56 + 10, abs=1.1)


def test_requests_in_flight_put_the_ttl_off() -> None:
    found = play(requests((0, "a"), (20, "a", 100), (500, "b")), world([model("a", 3, ttl_s=30), model("b", 3)]))
    assert deeds(found)[1] == "150 sleep a-1"


def test_a_request_times_out() -> None:
    found = play(requests((0, "a"), (6, "a")), world([model("a", 4)]), hold_timeout_s=5)
    assert waits(found) == [5, 4]
    assert (found.served, found.timed_out) == (1, 1)


def test_a_full_queue_refuses() -> None:
    found = play(requests((0, "a"), (1, "a"), (2, "a")), world([model("a", 4)]), hold_limit=2)
    assert waits(found)[:2] == [10, 9]
    assert math.isnan(waits(found)[2])
    assert (found.served, found.refused) == (2, 1)


def test_a_model_that_no_gpu_can_hold_is_refused() -> None:
    found = play(requests((0, "a"), (1, "a"), (2, "b")), world([model("a", 11), model("b", 4)]))
    assert (found.refused, found.served) == (2, 1)
    assert found.decisions.actions["refuse"] == 1
    assert "the largest GPU (n/0)" in found.decisions.last[0].reason
    by_model = {one.model: one for one in found.models}
    assert (by_model["a"].refused, by_model["a"].requests) == (2, 2)  # type: ignore[index]


def test_a_larger_gpu_gives_it_a_new_chance() -> None:
    larger = Gpu(GpuId("n/1"), NodeId("n"), 1, 20 * GB)
    found = play(requests((0, "a"), (60, "a")), world([model("a", 11)]), events=(GpuJoins(50, larger),))
    assert (found.refused, found.served) == (1, 1)
    assert seconds(found.hours.provisioned) == pytest.approx(70 + 20)


def test_slots_fill_and_the_rest_queues_in_order() -> None:
    calls = requests((0, "a", 2), (20, "a", 4), (20, "a", 6), (20, "a", 1), (21, "a", 1), (22, "a", 1))
    found = play(calls, world([model("a", 4)]), slots=2)
    assert waits(found) == [10, 0, 0, 4, 4, 4]
    assert (found.delayed, found.queued) == (1, 3)


def test_without_slots_nothing_queues() -> None:
    found = play(requests((0, "a"), *((20.0, "a", 50.0) for _ in range(40))), world([model("a", 4)]))
    assert (found.queued, found.delayed) == (0, 1)


def test_a_second_replica_takes_from_the_queue() -> None:
    growing = model("a", 4, max_replicas=2, target_in_flight=1)
    calls = requests((0, "a"), (20, "a", 30), (20, "a", 30))
    found = play(calls, world([growing], gpus=(10, 10)), slots=1, tick_s=1)
    assert "20 start a-2" in deeds(found)
    assert waits(found) == [10, 0, 10]
    assert found.queued == 1


def test_ready_replicas_share_the_load() -> None:
    pair = model("a", 4, min_replicas=2, max_replicas=2)
    calls = requests(*((20.0, "a", 10.0) for _ in range(4)))
    found = play(calls, world([pair], gpus=(10, 10)), slots=2)
    assert waits(found) == [0, 0, 0, 0]
    assert found.decisions.actions["start"] == 2


def test_loads_on_one_gpu_wait_for_each_other() -> None:
    calls = requests((0, "a"), (1, "b"))
    pair = [model("a", 4), model("b", 4)]
    assert waits(play(calls, world(pair))) == [10, 19]
    assert waits(play(calls, world(pair), loads_per_gpu=0)) == [10, 10]
    assert waits(play(calls, world(pair, gpus=(4, 4)))) == [10, 10]


def test_loads_on_one_node_share_its_link() -> None:
    """4 GB each, up to 2 GB/s each, 3 GB/s together: alone 2 s, at once 4 / 1.5 s."""
    shared = StartUp(disk=TierTime(1, 2 * GB))
    pair = [model("a", 4), model("b", 4)]
    calls = requests((0, "a"), (0, "b"))
    there = world(pair, gpus=(4, 4), startup=shared, link=3)
    assert waits(play(calls, there)) == [pytest.approx(1 + 4 / 1.5), pytest.approx(1 + 4 / 1.5)]
    assert waits(play(requests((0, "a"), (50, "b")), there)) == [3, 3]


def test_one_that_comes_later_slows_the_other_only_from_then_on() -> None:
    """a alone from 0 to 1 s: 3 GB; both until a has its last 3 GB (2 s); then b alone."""
    wide = StartUp(disk=TierTime(0, 3 * GB))
    there = world([model("a", 6), model("b", 6)], gpus=(6, 6), startup=wide, link=3)
    assert waits(play(requests((0, "a"), (1, "b")), there)) == [3, 3]


def test_a_failed_start_fails_who_waits_and_is_tried_again_later() -> None:
    found = play(requests((0, "a"), (10.5, "a"), (11, "a")), world([model("a", 4)]), fail_start_share=1.0)
    assert (found.failed, found.refused, found.failed_starts) == (2, 1, 2)
    assert deeds(found) == ["0 start a-1", "11 start a-2"]


def test_what_was_on_a_lost_gpu_is_gone() -> None:
    calls = requests((0, "a", 100), (30, "a"))
    found = play(calls, world([model("a", 4)], gpus=(10, 10)), events=(GpuLost(20, GpuId("n/0")),))
    assert (found.failed, found.served) == (1, 1)
    assert deeds(found) == ["0 start a-1", "30 start a-2"]
    assert seconds(found.hours.provisioned) == pytest.approx(20 + 40)


def test_a_gpu_that_is_lost_in_the_middle_of_a_load() -> None:
    found = play(requests((0, "a")), world([model("a", 4)], gpus=(10, 10)), events=(GpuLost(5, GpuId("n/0")),))
    assert waits(found) == [15]
    assert deeds(found) == ["0 start a-1", "5 start a-2"]


def test_all_gpus_lost_requests_time_out() -> None:
    found = play(requests((0, "a")), world([model("a", 4)]), events=(GpuLost(5, GpuId("n/0")),), hold_timeout_s=60)
    assert (found.timed_out, waits(found)) == (1, [60])


def test_a_reclaimed_gpu_is_cordoned_first() -> None:
    calls = requests((0, "a"), (20, "a"), (100, "a"))
    taken = GpuReclaimed(30, GpuId("n/0"), notice_s=10)
    found = play(calls, world([model("a", 4)], gpus=(10, 10)), events=(taken,))
    assert deeds(found) == ["0 start a-1", "30 stop a-1", "100 start a-2"]
    assert found.failed == 0
    assert seconds(found.hours.provisioned) == pytest.approx(40 + found.end_s)


def test_a_busy_one_gets_a_substitute_before_its_gpu_goes() -> None:
    """Its long request ends in time, and nobody waits for the substitute."""
    calls = requests((0, "a"), (28, "a", 20), (45, "a"), (70, "a"))
    taken = GpuReclaimed(30, GpuId("n/0"), notice_s=30)
    found = play(calls, world([model("a", 4)], gpus=(10, 10)), events=(taken,))
    assert deeds(found) == ["0 start a-1", "30 start a-2", "40 stop a-1"]
    assert waits(found) == [10, 0, 0, 0]
    assert (found.moves, found.failed) == (1, 0)
    late = play(requests((0, "a"), (28, "a", 40)), world([model("a", 4)], gpus=(10, 10)), events=(taken,), until_s=90)
    assert (late.moves, late.failed) == (1, 1)


def test_a_tensor_parallel_replica_is_on_all_its_gpus() -> None:
    there = world([model("a", 4, tensor_parallel=2)], gpus=(10, 10))
    pair = Replica(
        ReplicaId("a-0"),
        there.models[0].id,
        GpuId("n/0"),
        ReplicaState.READY,
        there.models[0].footprint,
        peers=(GpuId("n/1"),),
    )
    found = play(requests((0, "a"), (60, "a")), world(there.models, gpus=(10, 10), replicas=(pair,)))
    assert seconds(found.hours.occupied) == 120
    assert {point.gpu for point in found.memory} == {"n/0", "n/1"}
    lost = play(
        requests((0, "a"), (60, "a", 1)),
        world(there.models, gpus=(10, 10), replicas=(pair,)),
        events=(GpuLost(30, GpuId("n/1")),),
        hold_timeout_s=20,
    )
    assert (lost.served, lost.refused) == (1, 1)  # two GPUs, which no node has any more


def test_a_tensor_parallel_model_from_zero_asleep_and_awake() -> None:
    pair, single = model("a", 6, tensor_parallel=2), model("b", 6)
    found = play(requests((0, "a"), (20, "b"), (40, "a")), world([pair, single], gpus=(10, 10)))
    assert waits(found)[0] == 10
    assert (found.starts_disk, found.starts_host) == (2, 1)
    assert found.evictions == 2
    started = [one for one in found.memory if one.replica == "a-1" and one.state is ReplicaState.STARTING]
    assert {one.gpu for one in started} == {"n/0", "n/1"}
    assert all(one.gpu_bytes == 6 * GB for one in started)


def test_a_group_that_loads_waits_for_all_its_gpus() -> None:
    """b loads on one of the two GPUs that a needs."""
    pair, single = model("a", 4, tensor_parallel=2), model("b", 4)
    found = play(requests((0, "b"), (1, "a")), world([pair, single], gpus=(10, 10)))
    assert waits(found) == [10, 19]


def test_money_owned_gpus_cost_always_rented_ones_when_used() -> None:
    owned = Pool(PoolId("owned"), price_per_gpu_hour=1.0)
    spot = Pool(PoolId("spot"), PoolKind.SPOT, price_per_gpu_hour=0.5)
    base = world([model("a", 4)], gpus=(2,))
    rented = Gpu(GpuId("n/1"), NodeId("n"), 1, 10 * GB, pool=spot.id)
    there = world([model("a", 4)], gpus=(2,), pools=(owned, spot))
    there = type(there)(
        (*base.gpus, rented), there.nodes, there.models, there.pools, there.replicas, there.startup, there.service
    )
    found = play(requests((3600, "a"), (7200, "a")), there)
    by_pool = {one.pool: one for one in found.pools}
    assert by_pool[owned.id].money == pytest.approx(2.0)
    assert by_pool[spot.id].money == pytest.approx(0.5)
    assert found.money == pytest.approx(2.5)


def test_memory_over_time_is_told_as_change_points() -> None:
    found = play(requests((0, "a"), (20, "b")), world([model("a", 6, residue=1), model("b", 6)]))
    told = [(one.at_s, one.model, one.state.value, one.gpu_bytes // GB) for one in found.memory]
    assert told == [
        (0, "a", "starting", 6),
        (10, "a", "ready", 6),
        (20, "a", "draining", 6),
        (20, "a", "asleep", 1),
        (20, "b", "starting", 6),
        (30, "b", "ready", 6),
    ]


def test_memory_over_time_is_bounded() -> None:
    names = ["a", "b", "c"]
    trace = poisson(names, 0.2, 600, seed=1)
    there = world([model(name, 6) for name in names])
    long = play(trace, there)
    short = play(trace, there, memory_points=50)
    assert len(long.memory) > 500
    assert 10 < len(short.memory) <= 50
    assert short.loads == long.loads
    assert play(trace, there, memory_points=0).memory == ()


def test_until_ends_the_trace_early() -> None:
    found = play(requests((0, "a"), (20, "a"), (60, "a")), world([model("a", 4)]), until_s=50)
    assert found.requests == 2
    assert found.end_s == 50


def test_requests_that_nobody_can_ever_serve_end_with_the_simulation() -> None:
    calls = requests((0, "a"), (5, "b"))
    found = play(calls, world([model("a", 6, pinned=True), model("b", 6)]), hold_timeout_s=FOREVER)
    assert (found.served, found.timed_out) == (1, 1)


def test_a_trace_of_unknown_models_is_refused() -> None:
    with pytest.raises(SimError, match="1 requests for model 'b'"):
        play(requests((0, "a"), (1, "b")), world([model("a", 4)]))
