"""A module asleep and awake on a device that is played: same outputs, the memory back, and as few copies as can be."""

from __future__ import annotations

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from models.cuda.flat import FlatWeights
from models.cuda.pinned import PinnedPool, PoolFull
from models.runtimes.protocol import EngineError
from tests.models.cuda.fake_cuda import FakeCuda, PlainMemory

MIB = 1 << 20


class Net(torch.nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.first = torch.nn.Linear(width, width)
        self.norm = torch.nn.BatchNorm1d(width)
        self.second = torch.nn.Linear(width, width, bias=False)
        self.third = torch.nn.Linear(width, width, bias=False)
        self.third.weight = self.second.weight  # tied
        self.register_buffer("scale", torch.tensor(1.5), persistent=False)

    def forward(self, x):
        return self.third(self.second(self.norm(self.first(x)))) * self.scale


def make_net(seed=0):
    torch.manual_seed(seed)
    return Net().eval().requires_grad_(False)


def state(module):
    return {name: tensor.clone() for name, tensor in (*module.named_parameters(), *module.named_buffers())}


def same(some, other):
    return some.keys() == other.keys() and all(torch.equal(some[name], other[name]) for name in some)


def flat(module, cuda=None, limit_bytes=0):
    cuda = cuda or FakeCuda()
    return FlatWeights([module], cuda, PinnedPool(cuda, limit_bytes, PlainMemory))


@pytest.fixture
def from_file(tmp_path):
    """A module whose weights are views of a mapped file, as the torch runtime binds them."""
    path = tmp_path / "model.safetensors"
    torch.manual_seed(1)
    save_file({f"{number}.weight": torch.randn(64, 64) for number in range(6)}, path)
    module = torch.nn.Sequential(*(torch.nn.Linear(64, 64, bias=False, device="meta") for _ in range(6)))
    module.load_state_dict(load_file(path), assign=True)
    return module.requires_grad_(False)


def test_asleep_and_awake_again_it_answers_as_before():
    net, x = make_net(), torch.randn(3, 64)
    expected, outputs = state(net), net(x)
    cuda = FakeCuda()
    weights = flat(net, cuda)
    for _ in range(3):
        weights.resume()
        assert weights.awake
        assert all(cuda.is_device(tensor) for tensor in (*net.parameters(), *net.buffers()))
        assert same(state(net), expected)
        assert torch.allclose(net(x), outputs, rtol=1e-5)  # a CPU's sums depend on where memory begins
        weights.suspend()
        assert not any(cuda.is_device(tensor) for tensor in (*net.parameters(), *net.buffers()))
        gc.collect()
        assert cuda.used_bytes == cuda.cached_bytes == 0


def test_sleeping_moves_no_byte_and_waking_is_one_copy():
    cuda = FakeCuda()
    weights = flat(make_net(), cuda)
    weights.resume()
    assert len(cuda.copies) == 1
    assert cuda.copies[0] <= weights.size_bytes
    weights.suspend()
    assert len(cuda.copies) == 1
    weights.resume()
    assert len(cuda.copies) == 2
    assert cuda.pageable_copies == 0


def test_tied_weights_stay_tied():
    net = make_net()
    weights = flat(net)
    weights.resume()
    assert net.second.weight is net.third.weight
    own = sum(tensor.nbytes for tensor in (*net.parameters(), *net.buffers()))
    assert weights.size_bytes <= own + 16 * 512  # each tensor at a multiple of 512


def test_a_mapped_file_is_read_where_it_lies(from_file):
    cuda = FakeCuda()
    expected = state(from_file)
    weights = flat(from_file, cuda)
    assert weights.kept == "registered"
    (size,) = cuda.registered.values()
    assert size >= 6 * 64 * 64 * 4
    weights.resume()
    assert len(cuda.copies) == 1
    assert same(state(from_file), expected)
    weights.suspend()
    weights.close()
    assert not cuda.registered


def test_where_files_cannot_be_registered_the_pool_holds_them(from_file):
    cuda = FakeCuda(registers=("read-write",))
    expected = state(from_file)
    weights = flat(from_file, cuda)
    assert weights.kept == "pinned"
    weights.resume()
    assert cuda.pageable_copies == 0
    assert same(state(from_file), expected)


def test_where_the_pool_has_no_room_either_they_are_staged(from_file, caplog):
    cuda = FakeCuda(registers=("read-write",))
    expected = state(from_file)
    weights = flat(from_file, cuda, limit_bytes=64 * 64)
    assert weights.kept == "pageable"
    assert "weights stay pageable in their files: the pinned host pool may hold" in caplog.text
    weights.resume()
    assert same(state(from_file), expected)
    assert "pageable weights are copied by the driver's own means" in caplog.text
    weights.suspend()
    assert not cuda.is_device(from_file[0].weight)


def test_weights_without_a_file_need_the_pool():
    with pytest.raises(PoolFull, match="the pinned host pool may hold"):
        flat(make_net(), limit_bytes=4096)


def test_no_room_on_the_device_leaves_it_asleep(from_file):
    cuda = FakeCuda(total_bytes=200_000)
    expected = state(from_file)
    weights = flat(from_file, cuda)
    hog = cuda.allocate(150_000)
    with pytest.raises(torch.OutOfMemoryError):
        weights.resume()
    assert not weights.awake
    assert same(state(from_file), expected)
    del hog
    cuda.trim()
    weights.resume()
    assert weights.awake


def test_what_a_model_writes_itself_is_kept():
    """Statistics that are gathered while it serves must not fall back to what they were when it was loaded."""
    cuda = FakeCuda()
    net = make_net()
    weights = flat(net, cuda)
    weights.resume()
    for round_number in range(3):
        net.train()
        net(torch.randn(8, 64) + round_number)
        net.eval()
        kept = net.norm.running_mean.clone()
        assert int(net.norm.num_batches_tracked) == round_number + 1
        weights.suspend()
        assert torch.equal(net.norm.running_mean, kept)
        weights.resume()
        assert torch.equal(net.norm.running_mean, kept)
        assert int(net.norm.num_batches_tracked) == round_number + 1


def test_what_is_written_over_a_mapped_file_moves_to_the_pool_alone(from_file):
    weights = flat(from_file)
    weights.resume()
    from_file[2].weight.mul_(2)
    expected = state(from_file)
    weights.suspend()
    assert weights.kept == "pinned"
    for _ in range(2):
        weights.resume()
        assert same(state(from_file), expected)
        weights.suspend()


def test_no_room_for_what_was_written_leaves_it_awake(from_file):
    weights = flat(from_file, limit_bytes=4096)
    weights.resume()
    from_file[2].weight.mul_(2)
    expected = state(from_file)
    with pytest.raises(PoolFull):
        weights.suspend()
    assert weights.awake
    assert same(state(from_file), expected)


def test_doing_it_twice_is_doing_it_once():
    cuda = FakeCuda()
    weights = flat(make_net(), cuda)
    weights.suspend()
    weights.resume()
    weights.resume()
    assert len(cuda.copies) == 1


def test_phases_are_timed():
    weights = flat(make_net())
    weights.resume()
    weights.suspend()
    assert weights.timings_s.keys() == {"allocate", "copy", "release"}


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (torch.eye(3).to_sparse(), "odd is a Tensor, which cannot leave the GPU for a while"),
        (torch.empty(3, device="meta"), "odd has no values: it was never loaded"),
    ],
)
def test_what_has_no_bytes_is_refused(tensor, why):
    module = torch.nn.Module()
    module.register_buffer("odd", tensor)
    with pytest.raises(EngineError, match=why):
        flat(module)


def test_loose_tensors_move_as_modules_do():
    cuda = FakeCuda()
    loose, kept = torch.randn(5, 7).t(), torch.randn(3)
    before = loose.clone(), kept.clone()
    weights = FlatWeights([loose, kept, make_net()], cuda, PinnedPool(cuda, memory=PlainMemory))
    weights.resume()
    assert cuda.is_device(loose)
    assert loose.equal(before[0])
    assert kept.equal(before[1])


dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.int8, torch.float64, torch.bool])
shapes = st.lists(st.integers(0, 9), max_size=3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(dtypes, shapes, st.booleans()), min_size=1, max_size=12), st.booleans())
def test_tensors_of_any_kind_survive(kinds, change):
    module = torch.nn.Module()
    for number, (dtype, shape, view) in enumerate(kinds):
        tensor = torch.randint(0, 2, shape).to(dtype)
        module.register_buffer(f"t{number}", tensor)
        if view and tensor.dim() > 1:
            module.register_buffer(f"v{number}", tensor.transpose(0, 1)[1:])
    if not any(buffer.numel() for buffer in module.buffers()):
        return
    weights = flat(module)
    weights.resume()
    if change:
        for buffer in module.buffers():
            buffer.logical_not_() if buffer.dtype is torch.bool else buffer.add_(3)
    expected = {name: buffer.clone() for name, buffer in module.named_buffers()}
    for _ in range(2):
        weights.suspend()
        weights.resume()
        for name, buffer in module.named_buffers():
            assert buffer.equal(expected[name])
            assert buffer.stride() == dict(module.named_buffers())[name].stride()
