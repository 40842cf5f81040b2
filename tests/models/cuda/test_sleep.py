"""What a card may choose, and that every choice sleeps and wakes as it says."""

from __future__ import annotations

import pytest
import torch

from models.cuda import sleep
from models.cuda.module_weights import GpuPlace, PlacedWeights
from models.cuda.pinned import PinnedPool
from models.cuda.sleep import Checkpointed, ModuleSleep, choice_of, for_vllm
from models.runtimes.protocol import EngineError
from tests.models.cuda.fake_cuda import FakeCuda, PlainMemory

pytestmark = pytest.mark.anyio


async def in_thread(action):
    action()


class Part:
    """One half of ``Checkpointed``; notes the order of things in ``story``."""

    def __init__(self, name, story, host_bytes=0):
        self.name = name
        self.story = story
        self.host_bytes = host_bytes
        self.timings_s = {name: 1.0}
        self.fails: set[str] = set()

    async def prepare(self):
        await self._do("prepare")

    async def suspend(self):
        await self._do("suspend")

    async def resume(self):
        await self._do("resume")

    async def close(self):
        await self._do("close")

    async def _do(self, what):
        self.story.append(f"{what} {self.name}")
        if what in self.fails:
            raise EngineError(f"{self.name} cannot {what}", "memory")


@pytest.fixture
def story():
    return []


@pytest.fixture
def parts(story):
    return Part("weights", story, 10), Part("process", story, 3)


def test_unmapping_is_the_default():
    assert choice_of({}, "torch") == "unmap"
    assert choice_of({"sleep": "discard"}, "vllm") == "discard"
    assert choice_of({"sleep": "checkpoint"}, "torch") == "checkpoint"


@pytest.mark.parametrize(
    ("given", "runtime", "offered"),
    [
        ("deep", "vllm", "unmap, checkpoint, vllm, discard"),
        ("vllm", "torch", "unmap, checkpoint"),
        (2, "torch", "unmap"),
    ],
)
def test_other_choices_are_refused_with_those_there_are(given, runtime, offered):
    with pytest.raises(EngineError, match=rf"^engine_args.sleep must be one of {offered}"):
        choice_of({"sleep": given}, runtime)


async def test_weights_leave_before_the_process_and_come_back_after_it(parts, story):
    both = Checkpointed(*parts)
    await both.prepare()
    await both.suspend()
    await both.resume()
    await both.close()
    assert story == [
        "prepare weights",
        "suspend weights",
        "suspend process",
        "resume process",
        "resume weights",
        "close process",
        "close weights",
    ]
    assert both.host_bytes == 13
    assert both.timings_s == {"weights": 1.0, "process": 1.0}


async def test_a_process_that_cannot_leave_gets_its_weights_back(parts, story):
    parts[1].fails = {"suspend"}
    with pytest.raises(EngineError, match="process cannot suspend"):
        await Checkpointed(*parts).suspend()
    assert story == ["suspend weights", "suspend process", "resume weights"]


async def test_weights_without_room_send_the_process_away_again(parts, story):
    both = Checkpointed(*parts)
    parts[0].fails = {"resume"}
    with pytest.raises(EngineError, match="weights cannot resume"):
        await both.resume()
    assert story == ["resume process", "resume weights", "suspend process"]


async def test_a_module_sleeps_in_its_own_thread():
    cuda = FakeCuda(total_bytes=1 << 20)
    pool = PinnedPool(cuda, memory=PlainMemory)
    net = torch.nn.Linear(16, 16)
    place = GpuPlace(cuda, pool)
    place.put([net])
    backend = ModuleSleep(PlacedWeights([net], cuda.device, place), place, in_thread)
    assert cuda.is_device(net.weight)
    assert backend.host_bytes >= 16 * 17 * 4
    await backend.suspend()
    assert not cuda.is_device(net.weight)
    assert "release" in backend.timings_s
    cuda.total_bytes = 100
    with pytest.raises(EngineError, match=r"^the device has no room for the weights$") as refused:
        await backend.resume()
    assert refused.value.fault == "memory"


def test_each_choice_of_a_vllm_engine():
    worker = object()
    assert [for_vllm(None, choice, worker).name for choice in ("unmap", "vllm", "discard", "checkpoint")] == [
        "unmap",
        "vllm",
        "discard",
        "checkpoint",
    ]


def test_every_choice_is_explained():
    assert sleep.__doc__ is not None
    assert all(f"\n{choice} " in sleep.__doc__ for choice in ("unmap", "checkpoint", "vllm", "discard"))
