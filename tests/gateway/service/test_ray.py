"""Ray for real: a head as the service runs it, an actor on it, and then nothing of it."""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from gateway.service import ray_head
from gateway.service.host import LocalHost
from gateway.service.parts import Installation, environment, part
from gateway.service.ports import owner_of
from gateway.service.processes import PROC, command_line, family
from gateway.service.processes import environment as environ_of
from gateway.service.report import Event
from gateway.service.supervisor import Supervisor
from models.home import INSTANCE_ENV, Home

pytestmark = pytest.mark.anyio

# Joins the head as `models.control` does, starts a detached actor, and tells of it.
DRIVER = """
import json, os, sys, time
import ray
began = time.monotonic()
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR", namespace="test")
joined_s = time.monotonic() - began

class Told:
    def about(self):
        import gateway, models
        return {"pid": os.getpid(), "mark": os.environ["ROUNDHOUSE_INSTANCE"], "imports": gateway.__name__}

began = time.monotonic()
actor = ray.remote(Told).options(name="told", lifetime="detached", num_cpus=0).remote()
about = ray.get(actor.about.remote())
print(json.dumps({**about, "joined_s": joined_s, "actor_s": time.monotonic() - began}), flush=True)
"""
# One question to the head, without joining it.
ASK = "import sys; from ray._raylet import GcsClient; print(GcsClient(sys.argv[1]).internal_kv_keys(b'no-such-prefix'))"


async def test_a_head_an_actor_and_nothing_left(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    spec = part(Installation(home=home, config=home.config), "ray")
    events: list[Event] = []
    supervisor = Supervisor((spec,), LocalHost(home.logs), events.append)
    await supervisor.start()
    try:
        told = await _drive(home)
        processes = family(home.instance)
        assert told["pid"] in {process.pid for process in processes}
        assert told["mark"] == home.instance
        assert told["imports"] == "gateway", "workers find the project's packages"
        for process in processes:
            assert environ_of(process.pid)[INSTANCE_ENV] == home.instance, f"{command_line(process.pid)} lost its mark"
        assert _addresses(home) == {"127.0.0.1"}, "nothing of it can be reached from outside"
        started_s = next(event.seconds for event in events if event.kind == "ready")
    finally:
        began = time.monotonic()
        await supervisor.stop(asyncio.Event())
    assert family(home.instance) == frozenset(), "ending the part ends every process of Ray, workers too"
    with capsys.disabled():
        took = {
            "start": started_s,
            "join": told["joined_s"],
            "actor": told["actor_s"],
            "stop": time.monotonic() - began,
        }
        print("\nRay:", ", ".join(f"{what} {seconds:.2f} s" for what, seconds in took.items()))


async def test_nobody_is_let_in_without_the_token(home: Home) -> None:
    spec = part(Installation(home=home, config=home.config), "ray")
    supervisor = Supervisor((spec,), LocalHost(home.logs), lambda event: None)
    await supervisor.start()
    wrong = home.root / "wrong.token"
    wrong.write_text("0" * 64)
    try:
        assert await _python(home, ASK, ray_head.address(home)) == b"[]\n"
        with pytest.raises(subprocess.CalledProcessError) as refused:
            await _python(home, ASK, ray_head.address(home), RAY_AUTH_TOKEN_PATH=str(wrong))
        assert b"Unauthenticated" in refused.value.stderr
    finally:
        await supervisor.stop(asyncio.Event())


async def _drive(home: Home) -> dict[str, object]:
    found: dict[str, object] = json.loads((await _python(home, DRIVER, ray_head.address(home))).splitlines()[-1])
    return found


async def _python(home: Home, code: str, *arguments: str, **changes: str) -> bytes:
    """What the code prints, run as whoever joins the head from this machine."""
    env = {**environment(home), **ray_head.environment(home), **changes}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "python", output, errors)
    return output


def _addresses(home: Home) -> set[str]:
    """On which local addresses the processes of this installation listen."""
    ours = {process.pid for process in family(home.instance)}
    found = set()
    for table, family_number in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in (PROC / "net" / table).read_text().splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].rpartition(":")
            if fields[3] == "0A" and owner_of(int(port, 16)) in ours:
                found.add(_readable(address, family_number))
    return found


def _readable(address: str, family_number: int) -> str:
    words = [address[start : start + 8] for start in range(0, len(address), 8)]
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return socket.inet_ntop(family_number, packed).removeprefix("::ffff:")


def test_the_hook_that_ray_calls_leaves_out_the_client_server_and_tells_whose_node_it_is(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_NODE", "b7")
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(home.root))
    module, _, function = ray_head.environment(home)["RAY_START_HOOK"].rpartition(".")
    parameters = SimpleNamespace(ray_client_server_port=10001, labels={"zone": "x"})
    getattr(importlib.import_module(module), function)(parameters, True)
    assert parameters.ray_client_server_port is None
    assert parameters.labels == {"zone": "x", "roundhouse/node": "b7", "roundhouse/home": str(home.root)}
