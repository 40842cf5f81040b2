"""A model's modules and whatever it has made besides, asleep together and awake together."""

from __future__ import annotations

import gc

import pytest
import torch

from models.cuda.module_weights import GpuPlace, PlacedWeights
from models.cuda.pinned import PinnedPool, PoolFull
from tests.models.cuda.fake_cuda import FakeCuda, PlainMemory


@pytest.fixture
def cuda():
    return FakeCuda(total_bytes=1 << 20)


def place_on(cuda, limit_bytes=0):
    return GpuPlace(cuda, PinnedPool(cuda, limit_bytes, PlainMemory))


def nets(count=2):
    return [torch.nn.Linear(32, 32).requires_grad_(False) for _ in range(count)]


def made_later(cuda, size=64):
    """What a model computes for itself after it was loaded."""
    tensor = torch.empty(0)
    tensor.data = cuda.allocate(size * 4).view(torch.float32)
    return tensor.fill_(3.0)


def test_modules_sleep_and_wake_together(cuda):
    place, own = place_on(cuda), nets()
    before = [net.weight.clone() for net in own]
    for net in own:
        place.put([net])
    assert all(cuda.is_device(net.weight) for net in own)
    weights = PlacedWeights(own, cuda.device, place)
    weights.to_host()
    gc.collect()
    assert cuda.used_bytes == 0
    assert weights.has_copy
    weights.to_device()
    assert all(cuda.is_device(net.weight) for net in own)
    assert [torch.equal(net.weight, kept) for net, kept in zip(own, before, strict=True)] == [True, True]
    assert place.kept == "pinned"
    assert place.host_bytes >= 2 * 33 * 32 * 4
    assert place.timings_s.keys() == {"allocate", "copy", "release"}


def test_what_a_model_made_besides_leaves_with_it(cuda):
    place, (net,) = place_on(cuda), nets(1)
    place.put([net])
    extra = made_later(cuda)
    weights = PlacedWeights([net, extra], cuda.device, place)
    for _ in range(2):
        weights.to_host()
        gc.collect()
        assert cuda.used_bytes == 0
        assert extra.eq(3).all()
        weights.to_device()
        assert cuda.is_device(extra)
        assert cuda.is_device(net.weight)
        assert extra.eq(3).all()


def test_no_room_on_the_device_leaves_all_of_it_asleep(cuda):
    place, own = place_on(cuda), nets()
    for net in own:
        place.put([net])
    weights = PlacedWeights(own, cuda.device, place)
    weights.to_host()
    gc.collect()
    cuda.total_bytes = 6000
    with pytest.raises(torch.OutOfMemoryError):
        weights.to_device()
    gc.collect()
    assert cuda.used_bytes == 0
    cuda.total_bytes = 1 << 20
    weights.to_device()
    assert all(cuda.is_device(net.weight) for net in own)


def test_no_room_on_the_host_leaves_all_of_it_awake(cuda):
    place, (net,) = place_on(cuda, limit_bytes=6000), nets(1)
    place.put([net])
    extra = made_later(cuda, 2000)
    weights = PlacedWeights([net, extra], cuda.device, place)
    with pytest.raises(PoolFull):
        weights.to_host()
    assert cuda.is_device(net.weight)
    assert cuda.is_device(extra)


def test_nothing_to_put_is_no_business(cuda):
    place = place_on(cuda)
    place.put([torch.nn.ReLU()])
    place.suspend([torch.nn.ReLU()])
    place.resume()
    assert (cuda.used_bytes, place.host_bytes) == (0, 0)


def test_what_lies_elsewhere_is_left_alone(cuda):
    """A model may keep things on the CPU, and parts that were never given values."""
    place, (net,) = place_on(cuda), nets(1)
    place.put([net])
    unused = torch.empty(3, device="meta")
    place.suspend([net, unused])
    place.resume()
    assert unused.is_meta


def test_what_is_closed_gives_back_all_that_it_held(cuda):
    """For a process that goes on with other models."""
    place, own = place_on(cuda), nets()
    place.put(own)
    assert place.host_bytes > 0
    assert cuda.used_bytes > 0
    del own
    place.close()
    gc.collect()
    assert (place.host_bytes, cuda.used_bytes) == (0, 0)


def test_closing_gives_device_and_host_back_where_the_process_goes_on(cuda):
    """A shared process outlives the engines in it."""
    place, own = place_on(cuda), nets()
    place.put(own)
    assert cuda.registered
    place.close()
    own.clear()
    gc.collect()
    assert cuda.used_bytes == 0
    assert not cuda.registered
    assert place.host_bytes == 0
