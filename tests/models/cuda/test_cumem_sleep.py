"""vLLM's allocations asleep and awake: weights are copied to the host once, the cache never."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.cuda.pinned import PoolFull
from tests.models.cuda.fake_cuda import GARBAGE, FakeCuda
from tests.models.cuda.fake_vllm import FakeAllocator

MIB = 1 << 14  # small stands for large: nothing here depends on sizes


@pytest.fixture
def cuda():
    return FakeCuda()


@pytest.fixture
def engine(cuda):
    return FakeAllocator(cuda)


@pytest.fixture
def loaded(engine):
    """An engine with two allocations of weights, its cache, its state and scratch."""
    return {
        "w1": engine.add("weights", 3 * MIB, 1),
        "w2": engine.add("weights", MIB, 2),
        "kv": engine.add("kv_cache", 8 * MIB, 3),
        "state": engine.add("runtime", MIB, 4),
        "scratch": engine.add("workspace", MIB, 5),
    }


def contents(engine, at):
    return set(engine.bytes(at).tolist())


def test_asleep_nothing_is_mapped_and_awake_weights_and_state_are_back(engine, loaded, cuda):
    sleep = engine.sleep()
    sleep.suspend()
    assert cuda.used_bytes == 0
    assert all(data.is_asleep for data in engine.pointer_to_data.values())
    sleep.resume()
    assert not any(data.is_asleep for data in engine.pointer_to_data.values())
    assert {name: contents(engine, at) for name, at in loaded.items()} == {
        "w1": {1},
        "w2": {2},
        "kv": {GARBAGE},
        "state": {4},
        "scratch": {GARBAGE},
    }
    assert sleep.timings_s.keys() == {"copy_out", "unmap", "map", "copy"}


def test_a_second_sleep_copies_nothing(engine, loaded):
    sleep = engine.sleep()
    sleep.suspend()
    sleep.resume()
    kept = {at: held.block.bytes.clone() for at, held in sleep._kept.items()}
    for held in sleep._kept.values():
        held.block.bytes.fill_(9)  # would be overwritten by a copy
    sleep.suspend()
    assert all((held.block.bytes == 9).all() for held in sleep._kept.values())
    for at, held in sleep._kept.items():
        held.block.bytes.copy_(kept[at])
    sleep.resume()
    assert contents(engine, loaded["w1"]) == {1}


def test_copied_ahead_the_first_sleep_copies_nothing_either(engine, loaded, cuda):
    sleep = engine.sleep()
    sleep.prepare()
    assert sleep.host_bytes == 4 * MIB  # of weights alone
    assert cuda.used_bytes == 14 * MIB
    sleep.suspend()
    assert sleep.host_bytes == 5 * MIB
    sleep.resume()
    assert contents(engine, loaded["w1"]) == {1}


def test_waking_copies_what_was_kept_and_no_more(engine, loaded, cuda):
    sleep = engine.sleep()
    sleep.suspend()
    cuda.copies.clear()
    sleep.resume()
    assert sorted(cuda.copies) == [MIB, MIB, 3 * MIB]
    assert cuda.pageable_copies == 0


def test_weights_that_were_changed_are_copied_again(engine, loaded):
    sleep = engine.sleep()
    sleep.suspend()
    sleep.resume()
    engine.bytes(loaded["w1"])[5:9] = 77  # an adapter, new weights from a trainer
    sleep.suspend()
    sleep.resume()
    assert contents(engine, loaded["w1"]) == {1, 77}


def test_state_is_what_it_was_at_the_latest_sleep(engine, loaded):
    sleep = engine.sleep()
    for value in (10, 11, 12):
        engine.bytes(loaded["state"]).fill_(value)
        sleep.suspend()
        sleep.resume()
        assert contents(engine, loaded["state"]) == {value}


def test_a_wake_by_tags_leaves_the_cache_asleep(engine, loaded):
    sleep = engine.sleep()
    sleep.suspend()
    sleep.resume(["weights"])
    asleep = {data.tag for data in engine.pointer_to_data.values() if data.is_asleep}
    assert asleep == {"kv_cache"}
    assert contents(engine, loaded["w2"]) == {2}
    sleep.resume(["kv_cache"])
    assert not any(data.is_asleep for data in engine.pointer_to_data.values())


def test_the_second_level_keeps_no_weights(engine, loaded):
    sleep = engine.sleep()
    sleep.suspend(level=2)
    sleep.resume()
    assert contents(engine, loaded["w1"]) == {GARBAGE}
    assert contents(engine, loaded["state"]) == {4}
    engine.bytes(loaded["w1"]).fill_(6)  # vLLM loads them again
    sleep.suspend(level=1)
    sleep.resume()
    assert contents(engine, loaded["w1"]) == {6}


def test_no_room_on_the_device_leaves_it_asleep(engine, loaded, cuda):
    sleep = engine.sleep()
    sleep.suspend()
    cuda.total_bytes = 10 * MIB
    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of memory"):
            sleep.resume()
        assert cuda.used_bytes == 0
        assert all(data.is_asleep for data in engine.pointer_to_data.values())
    cuda.total_bytes = 100 * MIB
    sleep.resume()
    assert contents(engine, loaded["w1"]) == {1}
    assert contents(engine, loaded["kv"]) == {GARBAGE}


def test_no_room_on_the_host_leaves_it_awake(engine, loaded, cuda):
    sleep = engine.sleep(limit_bytes=2 * MIB)
    with pytest.raises(PoolFull):
        sleep.suspend()
    assert cuda.used_bytes == 14 * MIB
    assert not any(data.is_asleep for data in engine.pointer_to_data.values())


def test_host_memory_of_what_is_freed_is_used_again(engine, loaded):
    sleep = engine.sleep()
    sleep.suspend()
    sleep.resume()
    held_bytes = sleep.host_bytes
    engine.free(loaded["w1"])
    again = engine.add("weights", 3 * MIB, 8)
    sleep.suspend()
    assert sleep.host_bytes == held_bytes
    sleep.resume()
    assert contents(engine, again) == {8}


def test_what_vllm_discards_itself_comes_back_empty(engine, loaded):
    sleep = engine.sleep()
    data = engine.pointer_to_data[loaded["kv"]]
    engine.unmap_and_release(data.handle)
    data.is_asleep = True
    sleep.discarded(("kv_cache",))
    sleep.resume(["kv_cache"])
    assert contents(engine, loaded["kv"]) == {GARBAGE}
    assert contents(engine, loaded["w1"]) == {1}


tags = st.sampled_from(["weights", "weights", "kv_cache", "runtime", "cudagraph", "workspace", "default"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(tags, st.integers(1, 9)), min_size=1, max_size=10),
    st.lists(st.one_of(st.just("sleep"), st.just("wake"), st.just("weights"), st.just("write"), st.just("new"))),
)
def test_kept_contents_survive_any_history(made, steps):
    cuda = FakeCuda()
    engine = FakeAllocator(cuda)
    sleep = engine.sleep()
    expected = {engine.add(tag, pages * 4096, number + 1): number + 1 for number, (tag, pages) in enumerate(made)}
    for number, step in enumerate(steps):
        awake = [at for at, data in engine.pointer_to_data.items() if not data.is_asleep]
        if step == "sleep":
            sleep.suspend()
            assert cuda.used_bytes == 0
        elif step == "wake":
            sleep.resume()
        elif step == "weights":
            sleep.resume(["weights"])
        elif step == "write" and awake:
            expected[awake[-1]] = (expected[awake[-1]] + 100) % 256
            engine.bytes(awake[-1]).fill_(expected[awake[-1]])
        elif step == "new" and awake:
            expected[engine.add("weights", 4096, 200 + number % 50)] = 200 + number % 50
        for at, data in engine.pointer_to_data.items():
            if not data.is_asleep and data.tag in ("weights", "runtime", "cudagraph"):
                assert contents(engine, at) == {expected[at]}


def test_asleep_it_holds_on_the_host_what_it_must(engine, loaded):
    sleep = engine.sleep()
    sleep.suspend()
    assert sleep.host_bytes == 5 * MIB  # weights and state, neither cache nor scratch
