"""The door as a process of its own, and the member beside it: as they are started, and as they refuse to start."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.service import ray_head
from gateway.service.door.client import DoorClient
from gateway.service.door.words import Hello, own_versions
from gateway.service.parts import SOURCE_ROOT, Installation, environment, part
from gateway.service.ports import free_port
from models import secret
from models.cluster import Cluster, file
from models.fleet.node_file import NodeFile
from models.home import Home
from tests.gateway.service.conftest import Started
from tests.gateway.service.eventually import eventually

HEAD = "127.0.0.2"


def leads(home: Home) -> Cluster:
    led = Cluster(role="head", head=HEAD, identity="me", port=free_port(HEAD))
    secret.make(home.cluster_secret)
    NodeFile(name="h1", address=HEAD).write(home.node_file)
    led.write(home)
    return led


def run(home: Home, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, "--home", str(home.root), *words]
    return subprocess.run(
        command, env=environment(home), cwd=SOURCE_ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_door_from_start_to_end(start: Started, home: Home) -> None:
    led = leads(home)
    home.config.write_text("gpus: {simulated: 1x1GiB}\nmodels: []\n")
    spec = part(Installation(home=home, config=home.config, cluster=led), "door")
    process = start(*spec.command, env=dict(spec.env))
    assert spec.ready is not None
    ready = spec.ready
    eventually(lambda: asyncio.run(_is(ready)), "it listens")
    key = secret.key(secret.read(home.cluster_secret), "door")
    hello = Hello(name="a", identity="you", address="127.0.0.3", versions=own_versions(), joining=True)
    told = DoorClient(led.head, led.port, key).hello(hello)
    assert (told.session, told.simulated, told.url) == (None, True, None)
    home.config.write_text("gpus: {real: true}\nmodels: []\n")
    ray_head.prepare(home)
    (home.ray / "session_latest").symlink_to(home.ray / "session_7")
    ray_head.started_file(home).touch()
    told = DoorClient(led.head, led.port, key).hello(hello)
    assert (told.session, told.simulated) == ("session_7", False), "as it is now, not as it was when it started"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


async def _is(ready: object) -> bool:
    return bool(await ready())  # type: ignore[operator]


@pytest.mark.parametrize("module", ["gateway.service.door", "gateway.service.member"])
def test_without_a_cluster_or_its_secret_they_say_so(home: Home, module: str) -> None:
    words = ("--config", str(home.config)) if module.endswith("door") else ()
    ended = run(home, module, *words)
    assert (ended.returncode, "copy it from the head" in ended.stderr) == (2, True)
    secret.make(home.cluster_secret)
    ended = run(home, module, *words)
    assert ended.returncode == 2
    assert "roundhouse cluster lead ADDRESS" in ended.stderr or "roundhouse join HEAD" in ended.stderr
    file(home).write_text("{")
    ended = run(home, module, *words)
    assert (ended.returncode, "cannot be read" in ended.stderr) == (2, True)


def test_a_member_is_no_head_and_a_head_no_member(home: Home) -> None:
    leads(home)
    assert run(home, "gateway.service.member").returncode == 2
    Cluster(role="node", head=HEAD, identity="me").write(home)
    assert run(home, "gateway.service.door", "--config", str(home.config)).returncode == 2


def test_a_port_that_is_taken(home: Home) -> None:
    import socket

    led = leads(home)
    with socket.create_server((led.head, led.port)):
        ended = run(home, "gateway.service.door", "--config", str(home.config))
    assert (ended.returncode, f"cannot listen on {HEAD} port {led.port}" in ended.stderr) == (1, True)


def test_a_member_waits_for_its_head_and_leaves_nothing(start: Started, home: Home) -> None:
    port = free_port(HEAD)
    secret.make(home.cluster_secret)
    NodeFile(name="a", address="127.0.0.3").write(home.node_file)
    Cluster(role="node", head=HEAD, identity="me", port=port).write(home)
    spec = part(
        Installation(home=home, config=home.config, cluster=Cluster(role="node", head=HEAD, identity="me")), "member"
    )
    log = Path(home.logs / "member.log")
    with log.open("w") as output:
        process = start(*spec.command, env=dict(spec.env), stderr=output, start_new_session=True)
        eventually(lambda: "no head answers" in log.read_text(), "it says what it waits for")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
