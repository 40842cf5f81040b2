"""Ray's fleet over real hosts: nodes that join, fall silent, come back and are lost, with engines that live on."""

from __future__ import annotations

import json
import queue
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

pytestmark = pytest.mark.chaos
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


@pytest.fixture
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
    head, shown = stage.driver.ask("nodes")
    assert (head["id"], shown["id"], shown["address"]) == ("head", "a", a.host.address)
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
    assert stage.driver.ask("observe") == {"head": {}, "a": {}}


def test_a_link_that_is_cut_for_ten_seconds_costs_nothing(stage: Stage) -> None:
    a, b = stage.member("a"), stage.member("b")
    pid = stage.start("one", a)["pid"]
    loading = stage.driver.send("start", replica="two", source="slow", **stage.place(a))
    time.sleep(0.5)
    cut_at, since = time.monotonic(), len(stage.driver.events)
    a.host.cut()
    sleeping = stage.driver.send("sleep", replica="one")
    away = stage.driver.event("NodeAway", 10, node="a")
    assert 3.0 < away["at"] - cut_at < 8.0
    assert stage.driver.ask("observe").keys() == {"head", "b"}, "nobody waits for a node that is away"
    refused = stage.driver.ask("start", replica="three", **stage.place(a))
    assert refused["failed"] == "a does not answer"
    assert stage.start("four", b)["state"] == "ready"
    time.sleep(max(0.0, cut_at + 10.0 - time.monotonic()))
    a.host.mend()
    joined = stage.driver.event("NodeJoined", 30, since, node="a")
    assert {"one", "two"} == set(joined["engines"])
    assert stage.driver.result(sleeping) == "asleep"
    assert stage.driver.result(loading)["state"] == "ready"
    assert stage.driver.ask("observe")["a"]["one"] == pid
    assert [e["event"] for e in stage.driver.events[since:]] == ["NodeAway", "NodeJoined"]


def test_engines_outlive_their_nodes_ray_and_are_taken_over_by_the_next(stage: Stage) -> None:
    a = stage.member("a")
    pid = stage.start("one", a)["pid"]
    loading = stage.driver.send("start", replica="two", source="slow", **stage.place(a))
    time.sleep(0.5)
    since = len(stage.driver.events)
    assert a.host.kill(r"raylet/raylet", signal.SIGKILL) == 1
    assert a.ray is not None
    a.ray.wait(30)
    a.join()
    joined = stage.driver.event("NodeJoined", 40, since, node="a")
    assert {"one", "two"} == set(joined["engines"])
    assert stage.driver.result(loading)["state"] == "ready"
    assert stage.driver.ask("sleep", replica="one") == "asleep"
    assert stage.driver.ask("observe")["a"]["one"] == pid
    assert "NodeLost" not in [e["event"] for e in stage.driver.events]
    assert "ReplicaLost" not in [e["event"] for e in stage.driver.events]
    stage.driver.ask("stop", replica="one")
    stage.driver.ask("stop", replica="two")
    assert stage.driver.ask("observe")["a"] == {}


def test_a_node_whose_power_fails_is_lost_after_half_a_minute_and_welcome_again(stage: Stage) -> None:
    a = stage.member("a")
    stage.start("one", a)
    stopping = None
    crashed_at = time.monotonic()
    a.host.crash()
    stage.driver.event("NodeAway", 10, node="a")
    stopping = stage.driver.send("stop", replica="one")
    waking = stage.driver.send("wake", replica="one")
    lost = stage.driver.event("NodeLost", 60, node="a")
    assert 29.0 < lost["at"] - crashed_at < 45.0
    assert "has not answered for 3" in lost["reason"]
    assert stage.driver.result(stopping) is None
    assert stage.driver.result(waking)["kind"] == "NodeGivenUp"
    since = len(stage.driver.events)
    a.host.mend()
    a.begin("1x64MiB")
    assert stage.driver.event("NodeJoined", 60, since, node="a")["engines"] == []
    assert stage.start("two", a)["state"] == "ready"


def test_what_a_node_says_of_its_gpus_and_of_its_end_is_passed_on(stage: Stage) -> None:
    a = stage.member("a")
    a.home.lost_gpus.write_text("1 Xid 79: it has fallen off the bus\n")
    lost = stage.driver.event("GpuLost", 10, gpu="a/gpu-1")
    assert lost["reason"] == "Xid 79: it has fallen off the bus"
    a.home.reclaim_notice.write_text("2000000000")
    leaving = stage.driver.event("NodeLeaving", 10, node="a")
    assert leaving["at_unix_s"] == 2e9
    later = drive(stage.head)  # as a new controller: it learns what stands
    assert sorted(later.nodes.get(timeout=60)) == ["a", "head"]
    later.event("GpuLost", 10, gpu="a/gpu-1")
    later.event("NodeLeaving", 10, node="a")
    a.home.lost_gpus.write_text("")
    stage.driver.event("GpuBack", 10, gpu="a/gpu-1")
    since = len(stage.driver.events)
    a.home.reclaim_notice.unlink()
    stage.driver.event("NodeJoined", 10, since, node="a")


def test_nodes_obey_the_later_controller_alone_also_after_their_actors_were_started_anew(stage: Stage) -> None:
    a = stage.member("a")
    assert stage.driver.ask("claim", epoch=5) == 0
    stage.start("one", a)
    later = drive(stage.head)
    later.nodes.get(timeout=60)
    assert later.ask("claim", epoch=4) == 5
    assert later.ask("claim", epoch=6) == 5
    for do in ("sleep", "stop"):
        assert stage.driver.ask(do, replica="one")["kind"] == "Superseded"
    assert a.host.kill(r"NodeActor") >= 1
    time.sleep(1.0)
    assert stage.driver.ask("stop", replica="one")["failed"] == "a node obeys controller 6"
    assert "one" in later.ask("observe")["a"]
    assert later.ask("stop", replica="one") is None
