"""The embedded server: private, durable, one per folder, and started over whatever a crash left behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from models.home import Home
from models.store.binary import RedisServer, find_redis_server
from models.store.client import connect, unix_url
from models.store.embedded import EmbeddedRedis, redis_command
from models.store.errors import StoreError, StoreInUse, StoreStartFailed


@pytest.fixture
def home() -> Iterator[Home]:
    """In a short folder, so that a socket's path fits."""
    root = Path(tempfile.mkdtemp(prefix="rh-"))
    yield Home.find(root)
    shutil.rmtree(root, ignore_errors=True)


def test_it_answers_on_a_socket_that_is_private(home):
    with EmbeddedRedis(home) as store, connect(store.url) as client:
        assert client.ping()
        mode = home.redis_socket.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o700
        assert stat.S_IMODE(home.run.stat().st_mode) == 0o700
        assert stat.S_IMODE(home.redis_dir.stat().st_mode) == 0o700


def test_it_listens_on_no_port(home):
    with EmbeddedRedis(home) as store, connect(store.url) as client:
        assert client.config_get("port") == {"port": "0"} or client.config_get("port") == {b"port": b"0"}
        assert client.info("server")["tcp_port"] == 0


def test_it_ends_with_the_block_and_cleans_up():
    with EmbeddedRedis() as store:
        root, pid = store.home.root, store.pid
        assert pid is not None
        assert root.exists()
    assert not root.exists()
    assert store.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_home_that_was_given_stays(home):
    with EmbeddedRedis(home):
        pass
    assert home.redis_dir.is_dir()


def test_data_survives_a_stop(home):
    with EmbeddedRedis(home) as store, connect(store.url) as client:
        client.set("a", "1")
    with EmbeddedRedis(home) as store, connect(store.url) as client:
        assert client.get("a") == b"1"


def test_data_that_was_synced_survives_a_crash_and_the_stale_socket_is_no_obstacle(home):
    store = EmbeddedRedis(home)
    store.start()
    with connect(store.url) as client:
        client.set("a", "1")
        client.execute_command("CONFIG", "SET", "appendfsync", "always")
        client.set("b", "2")
    store.kill()
    assert home.redis_socket.exists()
    with store, connect(store.url) as client:
        assert client.mget("a", "b") == [b"1", b"2"]


def test_a_torn_last_write_is_no_obstacle(home):
    with EmbeddedRedis(home) as store, connect(store.url) as client:
        client.set("a", "1")
    journal = next(path for path in home.redis_dir.rglob("appendonly*") if path.is_file() and path.stat().st_size > 20)
    with journal.open("ab") as file:
        file.write(b"*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$100\r\ntorn")
    with EmbeddedRedis(home) as store, connect(store.url) as client:
        assert client.get("a") == b"1"
        assert client.get("b") is None


def test_a_folder_has_one_server_at_a_time(home):
    with EmbeddedRedis(home) as first, connect(first.url) as client:
        with pytest.raises(StoreInUse, match=rf"a Redis server \(pid {first.pid}\) already runs on .*roundhouse down"):
            EmbeddedRedis(home).start()
        assert client.ping()  # the first was not disturbed
    with EmbeddedRedis(home):
        pass  # and the folder is free again


def test_the_folder_stays_taken_while_the_server_lives_on_without_its_parent(home):
    home.create()
    process = subprocess.Popen([sys.executable, "-m", "models.store.server", "--home", str(home.root)])
    try:
        _until(lambda: _answers(home))
        with pytest.raises(StoreInUse, match=rf"\(pid {process.pid}\)"):
            EmbeddedRedis(home).start()
    finally:
        process.kill()
        process.wait()
    with EmbeddedRedis(home):
        pass


def test_a_broken_journal_is_told(home):
    home.create()
    with EmbeddedRedis(home) as store, connect(store.url) as client:
        client.set("a", "1")
    journal = next(path for path in home.redis_dir.rglob("appendonly*") if path.is_file() and path.stat().st_size > 20)
    journal.write_bytes(b"this is no journal\r\n" + journal.read_bytes())
    with pytest.raises(StoreStartFailed, match=r"ended with code 1: .*Bad file format reading the append only file"):
        EmbeddedRedis(home).start()
    journal.unlink()
    with EmbeddedRedis(home):
        pass  # the failed start let go of the folder


def test_a_socket_path_that_is_too_long_is_told(monkeypatch, tmp_path):
    long = Home.find(tmp_path / ("x" * 90))
    monkeypatch.setattr(Home, "run", property(lambda self: self.root / "run"))
    with pytest.raises(StoreError, match=r"bytes long, but at most 107 are possible; choose a shorter ROUNDHOUSE_HOME"):
        EmbeddedRedis(long).start()


def test_a_deep_folder_gets_its_socket_elsewhere(tmp_path):
    deep = Home.find(tmp_path / ("x" * 90))
    with EmbeddedRedis(deep) as store, connect(store.url) as client:
        assert client.ping()
    shutil.rmtree(deep.run)


def test_data_of_a_newer_server_is_not_silently_ignored(home):
    home.create()
    (home.redis_dir / "appendonlydir").mkdir()
    with pytest.raises(StoreError, match=r"was written by Redis 7 or later, but only .* \(6\.2\.14\) was found"):
        redis_command(home, RedisServer(Path("/x/redis-server"), (6, 2, 14)))
    assert redis_command(home, RedisServer(Path("/x/redis-server"), (7, 0, 0)))[0] == "/x/redis-server"


@pytest.mark.parametrize("name", ["with space", "ümlaut", "quo'te\"s", "per%20cent", "-dash", "back\\slash"])
def test_any_folder_name_will_do(home, name):
    odd = Home.find(home.root / name)
    with EmbeddedRedis(odd) as store, connect(store.url) as client:
        client.set("a", "1")
        assert client.config_get("dir") in ({"dir": str(odd.redis_dir)}, {b"dir": os.fsencode(odd.redis_dir)})
    assert any(odd.redis_dir.iterdir())


def test_starting_takes_no_longer_than_it_must(home, capsys):
    """Reported, not judged."""
    began_s = time.perf_counter()
    with EmbeddedRedis(home):
        took_s = time.perf_counter() - began_s
    with capsys.disabled():
        print(f"\nembedded Redis: answers after {took_s * 1000:.0f} ms")


class TestServerModule:
    def run(self, home: Home, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "models.store.server"],
            env={**os.environ, "ROUNDHOUSE_HOME": str(home.root), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def test_it_becomes_the_server_with_its_own_pid(self, home):
        process = self.run(home)
        try:
            _until(lambda: _answers(home))
            with connect(unix_url(home.redis_socket)) as client:
                assert client.info("server")["process_id"] == process.pid
                client.set("a", "1")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.communicate()
        with EmbeddedRedis(home) as store, connect(store.url) as client:
            assert client.get("a") == b"1"

    def test_it_starts_over_a_stale_socket(self, home):
        home.create()
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(home.redis_socket))
        process = self.run(home)
        try:
            _until(lambda: _answers(home))
        finally:
            process.kill()
            process.communicate()

    def test_a_second_one_says_why_it_cannot_start(self, home):
        with EmbeddedRedis(home) as first:
            process = self.run(home)
            out, err = process.communicate(timeout=30)
            assert process.returncode == 1
            assert out == ""
            assert err.startswith(f"roundhouse store: a Redis server (pid {first.pid}) already runs on")
            assert "Traceback" not in err


def test_the_version_is_the_one_that_runs(home):
    with EmbeddedRedis(home) as store, connect(store.url) as client:
        assert client.info("server")["redis_version"] == find_redis_server().version_text


def _answers(home: Home) -> bool:
    try:
        with connect(unix_url(home.redis_socket)) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not so within {timeout_s} s"
        time.sleep(0.01)
