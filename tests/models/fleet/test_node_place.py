"""A node is what its own file says, and else what the head configures."""

from __future__ import annotations

import pickle
import stat
from pathlib import Path

import msgspec
import pytest

from models import secret
from models.catalog.gpus import SimulatedGpu
from models.fleet.node_file import NodeFile
from models.fleet.node_keys import engines_key_file
from models.fleet.node_place import NodePlace, NodeSettings, UnusableNode
from models.home import Home
from models.nvml import NvmlUnavailable
from models.runtimes.protocol import EngineError
from packers.types import NodeId

MIB = 1 << 20
CONFIGURED = (SimulatedGpu(64 * MIB), SimulatedGpu(32 * MIB, 5.0))


@pytest.fixture(autouse=True)
def no_home_by_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUNDHOUSE_HOME", raising=False)


def settings(home: Path, host_bytes: int | None = 7 * MIB) -> NodeSettings:
    return NodeSettings(node=NodeId("n"), home=str(home), simulated=CONFIGURED, host_bytes=host_bytes)


def test_without_a_file_it_is_as_configured_and_alone(tmp_path: Path) -> None:
    place = NodePlace.find(settings(tmp_path))
    assert place.file.alone
    shown = place.shown()
    assert (shown.id, shown.address, shown.host_bytes, shown.simulated) == ("n", "127.0.0.1", 7 * MIB, True)
    assert [(gpu.id, gpu.memory_bytes, gpu.pool) for gpu in shown.gpus] == [
        ("n/gpu-0", 64 * MIB, "owned"),
        ("n/gpu-1", 32 * MIB, "owned"),
    ]
    assert shown.link_bytes_per_s == 5.0
    assert shown.run_dir == str(Home(tmp_path).engines)


def test_its_file_says_better(tmp_path: Path) -> None:
    file = NodeFile(name="n", address="10.0.0.7", gpus="3x16MiB", pool="spot", host_bytes=0)
    file.write(Home(tmp_path).node_file)
    place = NodePlace.find(settings(tmp_path))
    assert not place.file.alone
    shown = place.shown()
    assert (shown.address, shown.host_bytes) == ("10.0.0.7", 0)
    assert [(gpu.memory_bytes, gpu.pool) for gpu in shown.gpus] == [(16 * MIB, "spot")] * 3
    assert {device.memory_bytes for device in place.devices.values()} == {16 * MIB}


def test_nobody_saying_how_much_sleepers_may_have_it_is_half_of_this_machines_ram(tmp_path: Path) -> None:
    half = NodePlace.find(settings(tmp_path, None)).host_bytes
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert half == pytest.approx(int(total.split()[1]) * 1024 / 2, rel=0.01)


def test_the_home_of_its_own_environment_wins_over_the_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(tmp_path / "own"))
    assert settings(tmp_path / "heads").find_home() == Home(tmp_path / "own")


def test_a_file_that_cannot_be_understood_keeps_the_node_out(tmp_path: Path) -> None:
    Home(tmp_path).node_file.write_text('{"name": 3}')
    with pytest.raises(UnusableNode, match=r"node\.json cannot be used: .*`\$\.name`.*join the cluster again"):
        NodePlace.find(settings(tmp_path))
    NodeFile(name="n", gpus="two big ones").write(Home(tmp_path).node_file)
    with pytest.raises(UnusableNode, match="two big ones") as unusable:
        NodePlace.find(settings(tmp_path))
    assert str(pickle.loads(pickle.dumps(unusable.value))) == str(unusable.value), "it crosses Ray"


def test_a_machine_without_gpus_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def probe() -> None:
        raise NvmlUnavailable("there is no driver")

    monkeypatch.setattr("models.nvml.probe", probe)
    with pytest.raises(UnusableNode, match=r"no GPU on n \(there is no driver\); name simulated ones"):
        NodePlace.find(msgspec.structs.replace(settings(tmp_path), simulated=None))


def test_the_key_of_its_engines_is_written_from_the_clusters_secret_for_its_owner_alone(tmp_path: Path) -> None:
    home = Home(tmp_path).create()
    shared = secret.make(home.cluster_secret)
    path = engines_key_file(home)
    assert path.read_text() == secret.key(shared, "engines")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    home.cluster_secret.write_text("n" * 64)
    assert engines_key_file(home).read_text() == secret.key("n" * 64, "engines")
    assert [each.name for each in home.run.iterdir() if each.name.startswith("engines")] == ["engines.key"]


def test_without_a_secret_an_engine_for_others_is_refused_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="copy it from the head"):
        engines_key_file(Home(tmp_path).create())


def test_a_file_that_is_no_text_makes_no_node_and_says_what_to_do(tmp_path: Path) -> None:
    Home(tmp_path).node_file.write_bytes(b'{"name": "\xff"}')
    with pytest.raises(UnusableNode, match="join the cluster again"):
        NodePlace.find(settings(tmp_path))
