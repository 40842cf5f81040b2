"""What doctor says of the store, on a real server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.cli.store_checks import stored
from gateway.service import record
from gateway.service.processes import identify
from models.home import Home
from models.store.client import PREFIX_ENV, URL_ENV, connect
from models.store.codec import encode
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.records import ClusterRecord

KEYS = Keys()


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as running:
        yield running


@pytest.fixture
def client(server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    monkeypatch.delenv(URL_ENV, raising=False)
    monkeypatch.delenv(PREFIX_ENV, raising=False)
    with connect(server.url) as found:
        found.flushall()
        yield found


def test_a_store_that_is_as_it_should_be(server: EmbeddedRedis, client: redis.Redis) -> None:
    server.home.cluster_id.write_text("this one")
    client.set(KEYS.cluster, encode(ClusterRecord(cluster_id="this one", host="h", since_unix_s=1.0)))
    client.xadd(KEYS.decisions, {"d": "{}"})
    assert (stored(server.home).verdict, stored(server.home).cure) == ("ok", "")


def test_keys_of_another_program_and_of_another_cluster(server: EmbeddedRedis, client: redis.Redis) -> None:
    server.home.cluster_id.write_text("this one")
    client.set(KEYS.cluster, encode(ClusterRecord(cluster_id="that one", host="far.example", since_unix_s=1.0)))
    client.rpush(KEYS.fleet, "x")
    found = stored(server.home)
    assert found.verdict == "fail"
    assert "roundhouse:fleet holds a list where Roundhouse keeps a string" in found.found
    assert "another cluster's, which has its head on far.example" in found.found
    assert PREFIX_ENV in found.cure


def test_what_was_set_aside_is_shown_until_it_is_deleted(server: EmbeddedRedis, client: redis.Redis) -> None:
    client.set(KEYS.set_aside(KEYS.fleet), "{half")
    found = stored(server.home)
    assert (found.verdict, "roundhouse:set-aside:fleet" in found.found) == ("warn", True)
    client.delete(KEYS.set_aside(KEYS.fleet))
    assert stored(server.home).verdict == "ok"


def test_without_a_server_nothing_is_said_against_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_ENV, raising=False)
    assert stored(Home(tmp_path)).verdict == "ok"
    monkeypatch.setenv(PREFIX_ENV, "not a prefix")
    wrong = stored(Home(tmp_path))
    assert (wrong.verdict, PREFIX_ENV in wrong.cure) == ("fail", True)


def test_a_server_that_is_silent_is_a_fault_while_the_service_runs(
    home: Home, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_ENV, "redis://127.0.0.1:1")
    assert (stored(home).verdict, stored(home).found) == ("ok", "known once Redis runs")
    me = identify(os.getpid())
    assert me is not None
    home.service_file.parent.mkdir(parents=True, exist_ok=True)
    running = record.ServiceRecord(
        pid=me.pid, start_ticks=me.start_ticks, instance=home.instance, home=str(home.root), url="",
        config="", state="serving", since_unix_s=0,
    )  # fmt: skip
    record.write(home, running)
    found = stored(home)
    assert found.verdict == "fail"
    assert "Redis does not answer although the service runs" in found.found
    assert "roundhouse logs redis" in found.cure
