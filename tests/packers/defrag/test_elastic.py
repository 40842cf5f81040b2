"""KV caches shrink no further than their minimum and grow no further than their wish, fairly, and always fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.defrag.elastic import Fit, Short, grow, make_fit, resized, start_footprint
from packers.state import State
from packers.types import Footprint, GpuId, Model, ModelId, Replica, ReplicaId, ReplicaState, Resize, Snapshot
from tests.packers.defrag.towns import NOW_S, shuffled, towns
from tests.packers.worlds import MIB, gpus, nodes

N0 = GpuId("n/0")


def elastic(name: str, weights: int, least: int, wish: int, *, resizes: bool = True) -> Model:
    footprint = Footprint(weights * MIB, wish * MIB, 0, kv_min_bytes=least * MIB)
    return Model(ModelId(name), footprint, resizes=resizes)


def serving(model: Model, kv: int, gpu: str = "n/0", peers: tuple[GpuId, ...] = ()) -> Replica:
    footprint = replace(model.footprint, kv_cache_bytes=kv * MIB)
    return Replica(ReplicaId(f"{model.id}-1"), model.id, GpuId(gpu), ReplicaState.READY, footprint, peers=peers)


def state_of(sizes: dict[str, int], *there: tuple[Model, Replica]) -> State:
    found = gpus(sizes)
    state = State(found, nodes(found, 1000))
    for model, replica in there:
        state.put_model(model)
        state.put_replica(replica)
    return state


def free(state: State) -> dict[GpuId, int]:
    return dict(state.index.now.gpu)


def mib(resizes: tuple[Resize, ...]) -> dict[str, float]:
    return {resize.replica: round(resize.kv_cache_bytes / MIB, 1) for resize in resizes}


def test_a_new_replica_that_cannot_resize_others_gets_what_is_free_between_minimum_and_wish():
    wish = elastic("a", 50, 10, 30).footprint
    got = start_footprint(wish, 100 * MIB)
    assert got == wish
    got = start_footprint(wish, 65 * MIB)
    assert got is not None
    assert (got.gpu_bytes, got.kv_cache_bytes, got.kv_min_bytes) == (65 * MIB, 15 * MIB, 10 * MIB)
    assert start_footprint(wish, 60 * MIB - 1) is None
    rigid = replace(wish, kv_min_bytes=None)
    assert start_footprint(rigid, 80 * MIB - 1) is None


def test_two_that_serve_shrink_alike_so_that_a_third_fits():
    a, b, c = elastic("a", 10, 0, 40), elastic("b", 10, 0, 20), elastic("c", 10, 0, 40)
    state = state_of({"n/0": 100}, (a, serving(a, 40)), (b, serving(b, 20)))
    found = make_fit(c, (N0,), state, free(state))
    # 70 MiB for KV caches that wish for 100: each gets 70 %.
    assert isinstance(found, Fit)
    assert mib(found.resizes) == {"a-1": 28.0, "b-1": 14.0}
    assert round(found.footprint.kv_cache_bytes / MIB, 1) == 28.0
    assert "the KV cache of a-1 shrinks from 40 MiB to 28 MiB: makes room for c." in found.resizes[0].reason


def test_one_below_its_share_does_not_shrink_and_rigid_ones_never_do():
    a, b, c = elastic("a", 10, 0, 40), elastic("b", 10, 0, 20, resizes=False), elastic("c", 10, 0, 40)
    low = elastic("low", 5, 0, 40)
    state = state_of({"n/0": 100}, (a, serving(a, 34)), (b, serving(b, 20)), (low, serving(low, 1)))
    found = make_fit(c, (N0,), state, free(state))
    # 100 - 35 of weights - 20 - 1 leave 44 for a and c.
    assert isinstance(found, Fit)
    assert mib(found.resizes) == {"a-1": 22.0}
    assert round(found.footprint.kv_cache_bytes / MIB, 1) == 22.0


def test_nobody_shrinks_without_need_and_no_fit_says_what_is_missing():
    a, c = elastic("a", 30, 10, 30), elastic("c", 20, 10, 40)
    state = state_of({"n/0": 120}, (a, serving(a, 30)))
    assert make_fit(c, (N0,), state, free(state)) == Fit((N0,), c.footprint, ())
    large = elastic("large", 75, 10, 40)
    assert make_fit(large, (N0,), state, free(state)) == Short(N0, 5 * MIB)
    assert isinstance(make_fit(large, (N0,), state, free(state), touched=["a-1"]), Short)


def test_a_group_fits_on_all_of_its_gpus_or_not_at_all():
    a, c = elastic("a", 30, 10, 30), elastic("c", 50, 10, 40)
    state = state_of({"n/0": 100, "n/1": 70}, (a, serving(a, 30)))
    found = make_fit(c, (N0, GpuId("n/1")), state, free(state))
    assert isinstance(found, Fit)
    # n/1 has 20 MiB for c's KV cache, a third of the way from 10 to 40; on n/0 then 36.7 are left for a, which has 30.
    # But n/0 is the tighter one: 20 MiB for two minima of 10, so both are at their minimum.
    assert round(found.footprint.kv_cache_bytes / MIB, 1) == 10.0
    assert mib(found.resizes) == {"a-1": 10.0}
    assert make_fit(elastic("d", 65, 10, 40), (N0, GpuId("n/1")), state, free(state)) == Short(N0, 15 * MIB)


def test_what_is_free_goes_to_those_who_lack_in_proportion():
    a, b = elastic("a", 10, 0, 40), elastic("b", 10, 0, 20)
    state = state_of({"n/0": 71}, (a, serving(a, 10)), (b, serving(b, 5)))
    # 36 are free, 30 and 15 are lacking.
    assert mib(grow(state, free(state))) == {"a-1": 34.0, "b-1": 17.0}
    held_back = {N0: 9 * MIB}
    assert mib(grow(state, held_back)) == {"a-1": 16.0, "b-1": 8.0}
    assert grow(state, {N0: 0}) == ()
    assert grow(state, {N0: -5}) == ()
    assert mib(grow(state, free(state), touched=["a-1"])) == {"b-1": 20.0}


def test_tiny_growth_is_not_worth_an_order_unless_it_completes_the_wish():
    a = elastic("a", 10, 0, 64)
    state = state_of({"n/0": 100}, (a, serving(a, 20)))
    assert grow(state, {N0: 3 * MIB}) == ()
    assert mib(grow(state, {N0: 4 * MIB})) == {"a-1": 24.0}
    nearly = state_of({"n/0": 100}, (a, serving(a, 63)))
    assert mib(grow(nearly, {N0: 4 * MIB})) == {"a-1": 64.0}


def test_a_group_grows_as_its_tightest_gpu_lets_it():
    a, b = elastic("a", 10, 0, 40), elastic("b", 10, 0, 40)
    pair = replace(a, tensor_parallel=2)
    state = state_of({"n/0": 50, "n/1": 100}, (pair, serving(pair, 0, peers=(GpuId("n/1"),))), (b, serving(b, 0)))
    assert mib(grow(state, free(state))) == {"a-1": 15.0, "b-1": 15.0}
    assert mib(grow(state, free(state), [GpuId("n/1")])) == {"a-1": 15.0}


@pytest.mark.parametrize("where", [ReplicaState.STARTING, ReplicaState.ASLEEP, ReplicaState.DRAINING])
def test_only_who_serves_is_resized(where):
    a = elastic("a", 10, 0, 40)
    leaving = ReplicaState.DEAD if where is ReplicaState.DRAINING else None
    state = state_of({"n/0": 60}, (a, replace(serving(a, 20), state=where, draining_to=leaving)))
    assert grow(state, free(state)) == ()


def carry_out(state: State, resizes: tuple[Resize, ...]) -> None:
    for resize in resizes:
        state.put_replica(resized(state.replicas[resize.replica], resize))  # raises OverCapacity


def bounds_hold(state: State, town: Snapshot, resizes: tuple[Resize, ...]) -> None:
    models = {one.id: one for one in town.models}
    for resize in resizes:
        one = state.replicas[resize.replica]
        wish = models[one.model].footprint
        assert models[one.model].resizes
        assert one.state is ReplicaState.READY
        assert (
            (wish.kv_min_bytes or 0) <= resize.kv_cache_bytes <= max(wish.kv_cache_bytes, one.footprint.kv_cache_bytes)
        )
        assert (one.footprint.kv_min_bytes or 0) <= resize.kv_cache_bytes


@settings(max_examples=300, deadline=None)
@given(town=towns(), weights=st.integers(1, 60), least=st.integers(0, 20), more=st.integers(0, 40), data=st.data())
def test_making_room_never_goes_below_a_minimum_nor_over_capacity(town, weights, least, more, data):
    state = State.of(town)
    gpu = data.draw(st.sampled_from(sorted(state.gpus)))
    new = elastic("new", weights, least, least + more)
    found = make_fit(new, (gpu,), state, free(state))
    assert found == make_fit(new, (gpu,), State.of(shuffled(town)), free(state))
    if isinstance(found, Short):
        spare = sum(
            one.footprint.kv_cache_bytes
            - (one.footprint.kv_cache_bytes if one.footprint.kv_min_bytes is None else one.footprint.kv_min_bytes)
            for one in state.index.on_gpu(gpu)
            if state.models[one.model].resizes and one.state is ReplicaState.READY
        )
        assert state.index.now.gpu[gpu] + spare + found.short_bytes == new.footprint.gpu_min_bytes
        return
    bounds_hold(state, town, found.resizes)
    for resize in found.resizes:
        assert resize.kv_cache_bytes < state.replicas[resize.replica].footprint.kv_cache_bytes
    assert least * MIB <= found.footprint.kv_cache_bytes <= (least + more) * MIB
    carry_out(state, found.resizes)
    state.put_replica(Replica(ReplicaId("new-1"), new.id, gpu, ReplicaState.STARTING, found.footprint))


@settings(max_examples=300, deadline=None)
@given(town=towns(), held_back=st.integers(0, 50))
def test_growing_never_goes_over_capacity_nor_above_a_wish(town, held_back):
    state = State.of(town)
    room = {gpu: max(0, bytes_ - held_back * MIB) for gpu, bytes_ in free(state).items()}
    found = grow(state, room)
    assert found == grow(State.of(shuffled(town)), room)
    bounds_hold(state, town, found)
    for resize in found:
        assert resize.kv_cache_bytes > state.replicas[resize.replica].footprint.kv_cache_bytes
    before = free(state)
    carry_out(state, found)
    assert all(before[gpu] - now <= room[gpu] for gpu, now in free(state).items())
    assert state.snapshot("town", NOW_S).gpus == town.gpus
