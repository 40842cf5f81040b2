"""Ray's fleet over real hosts: nodes that join, fall silent, come back and are lost, with engines that live on."""

from __future__ import annotations

import json
import os
import queue
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.service import ray_head
from models import secret
from models.cluster import Cluster
from models.fleet.node_file import NodeFile
from models.home import Home
from models.runtimes.protocol import KEY_HEADER
from tests.cluster.hosts import Host, Network, until

pytestmark = [pytest.mark.chaos, pytest.mark.long]
RUNTIME = "tests.models.fleet.tiny_runtime:runtime"
SECRET = "s" * 64
ASK = """
import sys
from urllib.request import Request, urlopen
print(urlopen(Request(sys.argv[1], headers={sys.argv[2]: sys.argv[3]})).status)
"""


@dataclass
class Member:
    """A host with a launcher and a node of Ray's, without anybody who starts them again."""

    host: Host
    cluster: Cluster
    ray: subprocess.Popen[str] | None = None
    launcher: subprocess.Popen[str] | None = None

    @property
    def home(self) -> Home:
        return Home(self.host.home)

    def begin(self, gpus: str, pool: str | None = None) -> None:
        home = self.home.create()
        (home.root / "cluster.secret").write_text(SECRET)
        NodeFile(name=self.host.name, address=self.host.address, gpus=gpus, pool=pool, host_bytes=1 << 30).write(
            home.node_file
        )
        self.cluster.write(home)
        arguments = ("--socket", str(home.launcher_socket), "--scratch", str(home.cache), "--runtimes", RUNTIME)
        self.launcher = self._start(sys.executable, "-m", "models.runtimes.launcher", *arguments, log="launcher")
        self.join()

    def join(self) -> None:
        ray_head.prepare(self.home)
        command = (
            ray_head.command(self.home, self.cluster)
            if self.cluster.leads
            else ray_head.node_command(self.home, self.cluster, self.host.address)
        )
        self.ray = self._start(*command, log="ray")

    def _start(self, *words: str, log: str) -> subprocess.Popen[str]:
        with open(self.host.folder / f"{log}.log", "a") as file:
            return self.host.start(*words, more=self.env, stdout=file, stderr=file)

    @property
    def env(self) -> dict[str, str]:
        own = self.home.environment()
        return {**own, **ray_head.environment(self.home, self.cluster), "ROUNDHOUSE_NODE": self.host.name}


@dataclass
class Driver:
    """The fleet in a process of its own, on the head."""

    process: subprocess.Popen[str]
    events: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    nodes: queue.Queue[list[str]] = field(default_factory=queue.Queue)
    sent: int = 0

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "nodes" in said:
                self.nodes.put(said["nodes"])
            elif "event" in said:
                self.events.append(said)
            else:
                self.answers[said["to"]] = said

    def send(self, do: str, **more: Any) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self.process.stdin.flush()
        self.sent += 1
        return self.sent - 1

    def ask(self, do: str, timeout_s: float = 30, **more: Any) -> Any:
        return self.result(self.send(do, **more), timeout_s)

    def result(self, number: int, timeout_s: float = 30) -> Any:
        said = until(lambda: self.answers.get(number), timeout_s, 0.02, f"an answer to line {number}")
        return said.get("answer", said)

    def event(self, kind: str, timeout_s: float = 30, since: int = 0, **fields: Any) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((e for e in self.events[since:] if e["event"] == kind and fields.items() <= e.items()), None)

        try:
            event: dict[str, Any] = until(found, timeout_s, 0.02, f"{kind} {fields}")
        except AssertionError as problem:
            raise AssertionError(f"{problem}; there were {self.events[since:]}") from None
        return event


@dataclass
class Stage:
    """One for all tests: each has nodes of its own, and the last one has the last word."""

    network: Network
    head: Member
    driver: Driver

    def member(self, name: str, gpus: str = "2x64MiB", pool: str | None = None) -> Member:
        cluster = Cluster(role="node", head=self.head.host.address, identity=secrets.token_hex(4))
        made = Member(self.network.host(name), cluster)
        made.begin(gpus, pool)
        self.driver.event("NodeJoined", 60, node=name)
        return made

    def start(self, replica: str, at: Member, gpu: int = 0, **more: Any) -> dict[str, Any]:
        return dict(self.driver.ask("start", replica=replica, **self.place(at, gpu), **more))

    @staticmethod
    def place(at: Member, gpu: int = 0) -> dict[str, Any]:
        return {"gpu": f"{at.host.name}/gpu-{gpu}", "run_dir": str(at.home.engines)}


def drive(head: Member) -> Driver:
    words = (sys.executable, "-m", "tests.cluster.fleet_driver", str(head.home.root), head.cluster.ray_address)
    with open(head.host.folder / "driver.log", "a") as log:
        process = head.host.start(*words, more=head.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    return Driver(process)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Network() as network:
        host = network.host("head")
        head = Member(host, Cluster(role="head", head=host.address, identity=secrets.token_hex(4)))
        head.begin("1x64MiB")
        until(ray_head.started_file(head.home).exists, 60, what="Ray's head runs")
        driver = drive(head)
        assert driver.nodes.get(timeout=60) == ["head"]
        yield Stage(network, head, driver)


def test_a_node_joins_with_what_its_file_says_and_its_engines_answer_other_nodes(stage: Stage) -> None:
    a = stage.member("a", "2x64MiB,1x128MiB", pool="spot")
    (shown,) = [node for node in stage.driver.ask("nodes") if node["id"] == "a"]
    assert (shown["address"], shown["host_bytes"]) == (a.host.address, 1 << 30)
    assert [(gpu["memory_bytes"] >> 20, gpu["pool"]) for gpu in shown["gpus"]] == [(64, "spot")] * 2 + [(128, "spot")]
    started = stage.start("one", a)
    assert started["order"]["log_path"] == str(a.home.engine_logs / "one.log")
    url = f"http://{a.host.address}:{started['tcp_port']}/health"
    key = secret.key(SECRET, "engines")
    assert stage.head.host.python("-c", ASK, url, KEY_HEADER, key).stdout == "200\n"
    assert "403" in stage.head.host.python("-c", ASK, url, KEY_HEADER, "wrong").stderr
    assert stage.driver.ask("sleep", replica="one") == "asleep"
    assert stage.driver.ask("wake", replica="one") == "ready"
    assert stage.driver.ask("stop", replica="one") is None
    assert stage.driver.ask("observe")["a"] == {}


def test_a_link_that_is_cut_for_ten_seconds_costs_nothing(stage: Stage) -> None:
    a, b = stage.member("cut"), stage.member("whole")
    pid = stage.start("cut-1", a)["pid"]
    loading = stage.driver.send("start", replica="cut-2", source="slow", **stage.place(a))
    until(lambda: "cut-2" in stage.driver.ask("observe")["cut"], 30)
    cut_at, since = time.monotonic(), len(stage.driver.events)
    a.host.cut()
    sleeping = stage.driver.send("sleep", replica="cut-1")
    away = stage.driver.event("NodeAway", 30, node="cut")
    assert away["at"] - cut_at > 3.0, "a hiccup is no absence"
    assert "cut" not in stage.driver.ask("observe"), "nobody waits for a node that is away"
    refused = stage.driver.ask("start", replica="cut-3", **stage.place(a))
    assert refused["failed"] == "cut does not answer"
    assert stage.start("whole-1", b)["state"] == "ready"
    time.sleep(max(0.0, cut_at + 10.0 - time.monotonic()))
    a.host.mend()
    joined = stage.driver.event("NodeJoined", 60, since, node="cut")
    assert {"cut-1", "cut-2"} == set(joined["engines"])
    assert stage.driver.result(sleeping) == "asleep"
    assert stage.driver.result(loading)["state"] == "ready"
    assert stage.driver.ask("observe")["cut"]["cut-1"] == pid
    kinds = [e["event"] for e in stage.driver.events[since:] if e.get("node") in (None, "cut")]
    assert kinds == ["NodeAway", "NodeJoined"]


def test_engines_outlive_their_nodes_ray_and_are_taken_over_by_the_next(stage: Stage) -> None:
    a = stage.member("again")
    pid = stage.start("again-1", a)["pid"]
    loading = stage.driver.send("start", replica="again-2", source="slow", **stage.place(a))
    until(lambda: "again-2" in stage.driver.ask("observe")["again"], 30)
    since = len(stage.driver.events)
    assert a.host.kill(r"raylet/raylet", signal.SIGKILL) == 1
    assert a.ray is not None
    a.ray.wait(30)
    a.join()
    joined = stage.driver.event("NodeJoined", 60, since, node="again")
    assert {"again-1", "again-2"} == set(joined["engines"])
    assert stage.driver.result(loading)["state"] == "ready"
    assert stage.driver.ask("sleep", replica="again-1") == "asleep"
    assert stage.driver.ask("observe")["again"]["again-1"] == pid
    assert {e["event"] for e in stage.driver.events[since:]} <= {"NodeAway", "NodeJoined"}
    stage.driver.ask("stop", replica="again-1")
    stage.driver.ask("stop", replica="again-2")
    assert stage.driver.ask("observe")["again"] == {}


def test_a_node_whose_power_fails_is_lost_after_half_a_minute_and_welcome_again(stage: Stage) -> None:
    a = stage.member("dark")
    stage.start("dark-1", a)
    crashed_at = time.monotonic()
    a.host.crash()
    stage.driver.event("NodeAway", 30, node="dark")
    stopping = stage.driver.send("stop", replica="dark-1")
    waking = stage.driver.send("wake", replica="dark-1")
    lost = stage.driver.event("NodeLost", 120, node="dark")
    assert lost["at"] - crashed_at > 28.0, "it might have come back"
    assert re.fullmatch(r"dark has not answered for \d+ s, and Ray has given it up", lost["reason"])
    assert stage.driver.result(stopping) is None
    assert stage.driver.result(waking)["kind"] == "NodeGivenUp"
    since = len(stage.driver.events)
    a.host.mend()
    a.begin("1x64MiB")
    assert stage.driver.event("NodeJoined", 60, since, node="dark")["engines"] == []
    assert stage.start("dark-2", a)["state"] == "ready"


def test_what_a_node_says_of_its_gpus_and_of_its_end_is_passed_on(stage: Stage) -> None:
    a = stage.member("frail")
    a.home.lost_gpus.write_text("1 Xid 79: it has fallen off the bus\n")
    lost = stage.driver.event("GpuLost", gpu="frail/gpu-1")
    assert lost["reason"] == "Xid 79: it has fallen off the bus"
    a.home.reclaim_notice.write_text("2000000000")
    leaving = stage.driver.event("NodeLeaving", node="frail")
    assert leaving["at_unix_s"] == 2e9
    later = drive(stage.head)  # as a new controller: it learns what stands
    assert "frail" in later.nodes.get(timeout=60)
    later.event("GpuLost", gpu="frail/gpu-1")
    later.event("NodeLeaving", node="frail")
    a.home.lost_gpus.write_text("")
    stage.driver.event("GpuBack", gpu="frail/gpu-1")
    since = len(stage.driver.events)
    a.home.reclaim_notice.unlink()
    stage.driver.event("NodeJoined", since=since, node="frail")


def test_nodes_obey_the_later_controller_alone_also_after_their_actors_were_started_anew(stage: Stage) -> None:
    a = stage.member("loyal")
    assert stage.driver.ask("claim", epoch=5) == 0
    stage.start("loyal-1", a)
    later = drive(stage.head)
    later.nodes.get(timeout=60)
    assert later.ask("claim", epoch=4) == 5
    assert later.ask("claim", epoch=6) == 5
    for do in ("sleep", "stop"):
        assert stage.driver.ask(do, replica="loyal-1")["kind"] == "Superseded"
    (actor,) = a.host.pids(r"ray::NodeActor")
    os.kill(actor, signal.SIGKILL)
    until(lambda: a.host.pids(r"ray::NodeActor") not in ([], [actor]), 30, what="Ray has started it again")
    assert stage.driver.ask("stop", replica="loyal-1")["failed"] == "a node obeys controller 6"
    assert "loyal-1" in later.ask("observe")["loyal"]
    assert later.ask("stop", replica="loyal-1") is None
