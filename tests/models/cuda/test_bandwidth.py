"""Measuring the bus: every kind of host memory, on a played device of known speed; and the command on this machine."""

from __future__ import annotations

import gc
import json
import stat
import sys

import pytest

from models.cuda import bandwidth
from models.cuda.bandwidth import LinkUnknown, main, measure_all, measure_host_to_device, measured_link
from tests.models.cuda.fake_cuda import FakeCuda

pytestmark = pytest.mark.anyio

MIB = 1 << 20


def test_the_median_of_the_passes_is_taken():
    found = measure_host_to_device(FakeCuda(bytes_per_s=5e9), 4 * MIB, passes=3)
    assert found.kind == "pinned"
    assert found.bytes_per_s == pytest.approx(5e9)
    assert len(found.passes) == 3


def test_every_kind_is_measured_and_nothing_stays(tmp_path):
    cuda = FakeCuda()
    found = measure_all(cuda, tmp_path, 4 * MIB, passes=2)
    assert [one.kind for one in found] == ["pinned", "pageable", "staged", "registered file"]
    assert all(one.bytes_per_s == pytest.approx(1e9) for one in found)
    assert not cuda.registered
    gc.collect()
    assert cuda.used_bytes == 0
    assert list(tmp_path.iterdir()) == []


def test_what_is_impossible_says_why(tmp_path):
    found = {one.kind: one for one in measure_all(FakeCuda(registers=("read-write",)), tmp_path, MIB, passes=1)}
    assert found["registered file"].bytes_per_s == 0
    assert found["registered file"].why == "this GPU takes no read-only memory"
    found = {one.kind: one for one in measure_all(FakeCuda(registers=()), tmp_path, MIB, passes=1)}
    assert found["pinned"].why == "the memory could not be pinned"


def test_the_command_prints_one_line_of_json(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bandwidth", "--size-bytes", str(MIB)])
    assert main(FakeCuda) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["size_bytes"], round(told["bytes_per_s"])) == ("pinned", MIB, 10**9)


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    def none():
        raise RuntimeError("No CUDA GPUs are available")

    monkeypatch.setattr(sys, "argv", ["bandwidth"])
    assert main(none) == 1
    assert capsys.readouterr().err == "the GPU cannot be used: No CUDA GPUs are available\n"


@pytest.fixture
def python(monkeypatch, tmp_path):
    """What stands for the process that measures: a script."""

    def _python(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(path))

    return _python


async def test_a_node_asks_a_process_that_sees_only_that_gpu(python):
    python(
        'test "$CUDA_VISIBLE_DEVICES" = GPU-7 || exit 9\n'
        """echo '{"kind":"pinned","size_bytes":1,"bytes_per_s":52e9}'"""
    )
    assert await measured_link("GPU-7") == 52e9


async def test_a_gpu_that_cannot_be_measured_is_told(python):
    python("echo some warning >&2; echo the GPU cannot be used: no driver >&2; exit 1")
    with pytest.raises(
        LinkUnknown, match=r"^the bus to GPU-7 could not be measured: the GPU cannot be used: no driver$"
    ):
        await measured_link("GPU-7")


async def test_a_measurement_that_hangs_is_ended(python, monkeypatch):
    python("exec sleep 60")
    monkeypatch.setattr(bandwidth, "PATIENCE_S", 0.05)
    with pytest.raises(LinkUnknown, match=r"was not measured within 0.05 s"):
        await measured_link("GPU-7")
