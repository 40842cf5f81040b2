"""Every name of vLLM's that sleeping touches, and the calls that each kind of sleep makes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from models.cuda import cumem_sleep
from models.cuda.vllm_sleep import (
    BACKEND,
    NAMES,
    VllmSleep,
    choose_backend,
    has_name,
    missing_names,
)
from models.runtimes.protocol import EngineError
from tests.models.cuda.fake_cuda import FakeCuda
from tests.models.cuda.fake_vllm import FakeAllocator

pytestmark = pytest.mark.anyio


class Llm:
    """Notes what it is told; ``fails`` with the nth call."""

    def __init__(self, fails=None):
        self.told = []
        self._fails = fails

    def _note(self, *what):
        self.told.append(what)
        if self._fails is not None:
            raise self._fails

    async def sleep(self, level):
        self._note("sleep", level)

    async def wake_up(self, tags=None):
        self._note("wake_up", tags)

    async def collective_rpc(self, method):
        self._note(method)

    async def reset_prefix_cache(self):
        self._note("reset_prefix_cache")


@pytest.mark.parametrize(("module", "path"), NAMES)
def test_vllm_has(module, path):
    assert has_name(module, path), (
        f"vLLM has changed: {module}.{path} is gone, which models/cuda/vllm_sleep.py or vllm_backend.py uses."
        " Until that is adapted, cards must say sleep: vllm."
    )


def test_a_name_that_is_gone_is_noticed():
    modules = {"m": SimpleNamespace(Thing=SimpleNamespace(act=lambda level: level))}

    def find(module):
        if module not in modules:
            raise ImportError(module)
        return modules[module]

    assert has_name("m", "Thing.act(level)", find)
    assert not has_name("m", "Thing.act(depth)", find)
    assert not has_name("m", "Thing.rest", find)
    assert not has_name("n", "Thing", find)
    assert len(missing_names(find)) == len(NAMES)


def test_tags_are_vllms():
    from vllm.device_allocator import DEFERRABLE_TAGS

    assert DEFERRABLE_TAGS == cumem_sleep.DEFERRABLE


def test_ours_is_what_vllm_makes_when_it_is_chosen():
    from vllm.device_allocator.sleep_mode_backend import SleepModeBackendFactory

    from models.cuda.vllm_backend import PinnedUnmapBackend

    config: Any = SimpleNamespace(sleep_mode_backend="cumem")
    for _ in range(2):  # a second engine of a test process finds it registered
        choose_backend(config, own=False)
    assert config.sleep_mode_backend == BACKEND
    assert SleepModeBackendFactory.get_backend_class(BACKEND) is PinnedUnmapBackend
    with pytest.raises(ValueError, match="'roundhouse' is not supported on this platform"):
        SleepModeBackendFactory.create_backend(config)  # the CPU build has no such memory
    choose_backend(config, own=True)
    assert config.sleep_mode_backend == "cumem"


def test_ours_sleeps_and_wakes_vllms_own_records(monkeypatch):
    """The backend as vLLM calls it, over vLLM's own class of records and its allocator's table of them."""
    from vllm.device_allocator import AllocationData
    from vllm.device_allocator.cumem import CuMemAllocator

    from models.cuda import vllm_backend

    cuda = FakeCuda()
    engine = FakeAllocator(cuda, AllocationData)
    allocator = CuMemAllocator()
    allocator.pointer_to_data = engine.pointer_to_data
    monkeypatch.setattr(CuMemAllocator, "get_instance", staticmethod(lambda: allocator))
    weights, cache = engine.add("weights", 4096, 5), engine.add("kv_cache", 4096, 6)
    made = engine.sleep()
    monkeypatch.setattr(vllm_backend, "_of_this_process", lambda: made)
    backend = vllm_backend.PinnedUnmapBackend()
    backend.prepare()
    assert backend.state() == "RUNNING"
    backend.suspend(level=1)
    assert backend.state() == "SUSPENDED"
    assert cuda.used_bytes == 0
    assert allocator.get_current_usage() == 8192  # vLLM's own books are as after its own sleep
    cuda.total_bytes = 4096
    with pytest.raises(EngineError, match="the device has no room for the engine's weights and cache") as refused:
        backend.resume()
    assert refused.value.fault == "memory"
    assert backend.state() == "SUSPENDED"
    cuda.total_bytes = 1 << 20
    backend.resume(["weights"])
    assert engine.pointer_to_data[cache].is_asleep
    backend.resume()
    assert backend.state() == "RUNNING"
    assert set(engine.bytes(weights).tolist()) == {5}


async def test_vllms_own_mode_is_told_its_level():
    llm = Llm()
    sleep = VllmSleep(llm)
    await sleep.suspend()
    await sleep.resume()
    await sleep.prepare()
    assert llm.told == [("sleep", 1), ("wake_up", None)]
    assert (sleep.name, sleep.host_bytes, sleep.timings_s) == ("vllm", 0, {})


async def test_discarded_weights_are_loaded_before_the_cache_comes_back():
    llm = Llm()
    sleep = VllmSleep(llm, level=2)
    await sleep.suspend()
    await sleep.resume()
    assert llm.told == [
        ("sleep", 2),
        ("wake_up", ["weights"]),
        ("reload_weights",),
        ("wake_up", ["kv_cache"]),
        ("reset_prefix_cache",),
    ]


async def test_ours_tells_its_phases_and_what_it_holds_on_the_host():
    engine = FakeAllocator(FakeCuda())
    engine.add("weights", 4096, 1)
    own = engine.sleep()
    backend = SimpleNamespace(sleep=own, prepare=own.prepare)
    sleep = VllmSleep(Llm(), worker=SimpleNamespace(sleep_mode_backend=backend))
    await sleep.prepare()
    assert sleep.host_bytes == 4096
    await sleep.suspend()
    assert sleep.timings_s.keys() == {"copy_out"}
    assert sleep.name == "unmap"


async def test_no_room_is_told_as_such_and_other_errors_are_left_alone():
    sleep = VllmSleep(Llm(fails=RuntimeError("CUDA Error: out of memory at x.cpp:1")))
    with pytest.raises(EngineError, match="the device has no room") as refused:
        await sleep.resume()
    assert refused.value.fault == "memory"
    with pytest.raises(RuntimeError, match="broken"):
        await VllmSleep(Llm(fails=RuntimeError("broken"))).resume()


def test_a_vllm_that_does_not_fit_is_refused_with_the_cure(monkeypatch):
    from models.cuda import vllm_sleep

    monkeypatch.setattr(vllm_sleep, "missing_names", lambda: ["vllm.device_allocator.cumem.create_and_map"])
    config = SimpleNamespace(sleep_mode_backend="cumem")
    with pytest.raises(
        EngineError,
        match=r"does not fit this vLLM, which has no vllm.device_allocator.cumem.create_and_map: choose sleep: vllm",
    ):
        choose_backend(config, own=False)
    assert config.sleep_mode_backend == "cumem"
