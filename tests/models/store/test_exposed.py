"""The store of a cluster's head: with a password, on the head's address and on its unix socket, and nowhere else."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from models import secret
from models.cluster import Cluster
from models.home import Home
from models.store import exposed
from models.store.client import URL_ENV, connect, embedded_url, redis_url
from models.store.embedded import EmbeddedRedis, redis_command
from models.store.errors import StoreError, StoreSettingError

HEAD = "127.0.0.2"  # this machine's, and not where everything else listens


@pytest.fixture
def home() -> Iterator[Home]:
    """Of a head."""
    root = Path(tempfile.mkdtemp(prefix="rh-"))
    found = Home.find(root).create()
    with socket.socket() as probe:
        probe.bind((HEAD, 0))
        port = probe.getsockname()[1]
    secret.make(found.cluster_secret)
    Cluster(role="head", head=HEAD, identity="me", port=port - 2).write(found)
    yield found
    for folder in (root, found.run):
        shutil.rmtree(folder, ignore_errors=True)


def node_of(home: Home, root: Path, **more: object) -> Home:
    """Another machine, which has joined."""
    node = Home.find(root).create()
    shutil.copy(home.cluster_secret, node.cluster_secret)
    led = _cluster(home)
    Cluster(role="node", head=led.head, identity="you", port=led.port, **more).write(node)  # type: ignore[arg-type]
    return node


def _cluster(home: Home) -> Cluster:
    from models import cluster

    found = cluster.read(home)
    assert found is not None
    return found


def test_both_machines_find_it_by_what_is_written_in_their_folders(home: Home, tmp_path: Path) -> None:
    node = node_of(home, tmp_path / "node")
    with EmbeddedRedis(home):
        here, there = connect(redis_url(home, {})), connect(redis_url(node, {}))
        here.set("said", "hello")
        assert there.get("said") == b"hello"
        here.close()
        there.close()


def test_nobody_gets_in_without_the_password(home: Home) -> None:
    with EmbeddedRedis(home):
        for url in (f"unix://{home.redis_socket}", f"redis://{HEAD}:{_cluster(home).redis_port}/0"):
            client = connect(url)
            with pytest.raises(redis.exceptions.AuthenticationError):
                client.ping()
            client.close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", _cluster(home).redis_port), timeout=1)


def test_the_password_is_in_no_command_line_and_in_a_file_for_its_owner_alone(home: Home) -> None:
    password = exposed.password(home)
    assert password is not None
    with EmbeddedRedis(home) as store:
        assert password not in Path(f"/proc/{store.pid}/cmdline").read_text()
    assert password not in " ".join(redis_command(home))
    (path,) = exposed.config_file(home)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_machine_that_is_alone_has_it_on_the_unix_socket_without_a_password(tmp_path: Path) -> None:
    alone = Home.find(tmp_path)
    assert exposed.options(alone) == {"port": "0"}
    assert exposed.config_file(alone) == ()
    assert exposed.password(alone) is None
    assert embedded_url(alone) == f"unix://{alone.redis_socket}"
    assert exposed.ping(None) == b"PING\r\n"


def test_with_a_store_of_the_operators_own_a_node_has_to_be_told_it(home: Home, tmp_path: Path) -> None:
    node = node_of(home, tmp_path / "node", own_redis=True)
    with pytest.raises(StoreSettingError, match=f"name it in {URL_ENV} here"):
        redis_url(node, {})
    assert redis_url(node, {URL_ENV: "redis://10.0.0.9:6379/0"}) == "redis://10.0.0.9:6379/0"


def test_without_its_secret_a_head_says_what_is_missing(home: Home) -> None:
    home.cluster_secret.unlink()
    with pytest.raises(StoreError, match="copy it from the head"):
        exposed.password(home)
    with pytest.raises(StoreSettingError, match="cannot be read"):
        redis_url(home, {})
