"""The command: what it says without a GPU, and that one failed measurement does not hide the others."""

from __future__ import annotations

import json
import sys

import pytest

from loadtests.gpu import __main__ as command
from loadtests.gpu import subjects
from loadtests.gpu.__main__ import NotMeasured, main, measure

TOLD = {
    "bandwidth": {"pinned": {"bytes_per_s": 50e9, "passes": [50e9], "why": ""}},
    "wake": {"bytes": 10**9, "kept": "pinned", "wake_s": [0.03], "suspend_s": [0.01], "equal": True},
    "ledger": {"ledger_bytes": 1 << 30, "nvml_bytes": 1 << 30, "off": 0.0},
    "residue": {"context": 1 << 20, "loaded": 2 << 20, "used": 3 << 20, "asleep": 1 << 20, "weights": 1 << 20},
}
GPU = {"name": "H100", "memory_bytes": 80 << 30, "used_bytes": 0, "mig": False, "driver": "580"}


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    return main()


@pytest.fixture
def told(monkeypatch):
    """A machine with a GPU whose measurements are played; ``checkpoint`` fails there."""
    asked = []

    def play(subject, *arguments):
        asked.append((subject, *map(str, arguments)))
        if subject not in TOLD:
            raise NotMeasured("sleep: checkpoint does not work on this machine")
        return TOLD[subject]

    monkeypatch.setattr(command, "measure", play)
    monkeypatch.setattr(command, "gpus", lambda: [GPU])
    return asked


def test_everything_is_printed_and_written(told, monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "--sizes", "1,2.5", "--passes", "3", "--json", str(tmp_path / "out.json")) == 1
    out = capsys.readouterr().out
    assert "host to device, pinned: 50.0 GB/s" in out
    assert out.count("goal C5 at most 0.126 s: met") == 4
    assert "checkpoint --passes 3: not measured (sleep: checkpoint does not work on this machine)" in out
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["gpus"] == [GPU]
    assert len(document["wake"]) == 4
    assert document["checkpoint"] == [{"problem": "sleep: checkpoint does not work on this machine"}]
    assert ("wake", "--bytes", "2500000000", "--from", "pool", "--passes", "3") in told


def test_without_a_bandwidth_the_rest_is_measured_all_the_same(told, monkeypatch, capsys):
    monkeypatch.delitem(TOLD, "bandwidth")
    assert run(monkeypatch, "--sizes", "1") == 1
    out = capsys.readouterr().out
    assert "bandwidth --passes 5: not measured" in out
    assert "wake 1.00 GB (pinned): median 0.030 s" in out
    assert "goal C5" not in out


def test_a_machine_without_a_gpu_is_told_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch)
    assert str(ended.value) == "there is no GPU to measure here: the Python package nvidia-ml-py is not installed"


@pytest.mark.parametrize("sizes", ["", "0", "1,x", "-1"])
def test_sizes_that_are_none_are_refused(sizes, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, f"--sizes={sizes}")
    assert "is not a list of sizes above 0 in GB" in capsys.readouterr().err


def test_a_measurement_that_fails_says_its_last_line(tmp_path):
    missing = tmp_path / "missing"
    with pytest.raises(NotMeasured, match=f"FileNotFoundError.*{missing}"):
        measure("wake", "--bytes", 1000, "--passes", 1, "--in", missing)


def test_the_model_that_is_measured_is_of_the_size_asked_for(tmp_path):
    path = subjects.stack_in(tmp_path, 6 << 20)
    assert 6 << 20 <= path.stat().st_size < 7 << 20
    module = subjects.stack_of(path)
    assert len(module) == 3
    assert len({float(layer.weight.sum()) for layer in module}) >= 1
    assert not module[0].weight.equal(module[1].weight)
