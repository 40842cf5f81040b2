"""What a machine has written down of its cluster, and the ports that follow from one."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import cluster, secret
from models.cluster import PORTS, WORKER_PORTS, Cluster, ClusterFileError
from models.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.find(tmp_path / "home").create()


def led(**more: object) -> Cluster:
    return Cluster(role="head", head="10.0.0.1", identity="me", **more)  # type: ignore[arg-type]


def test_what_was_written_is_read_again(home: Home) -> None:
    assert cluster.read(home) is None
    for written in (led(), led(port=9000, own_redis=True), Cluster(role="node", head="10.0.0.1", identity="me")):
        written.write(home)
        assert cluster.read(home) == written
    assert not cluster.file(home).with_suffix(".new").exists()


@pytest.mark.parametrize("wrong", [b"", b"{", b'{"role": "boss", "head": "x", "identity": "y"}', b"[]", b'{"\xff": 1}'])
def test_a_file_that_cannot_be_read_is_named_with_the_cure(home: Home, wrong: bytes) -> None:
    cluster.file(home).write_bytes(wrong)
    with pytest.raises(ClusterFileError, match=r"cluster\.json cannot be read.*join it again"):
        cluster.read(home)


def test_no_port_is_used_twice_and_all_are_within_what_a_firewall_lets_through() -> None:
    this = led()
    own = dict(this.ray_node_ports)
    first, last = own.pop("min-worker-port"), own.pop("max-worker-port")
    single = [this.port, this.ray_port, this.redis_port, *own.values()]
    assert len(set(single)) == len(single)
    assert max(single) < first
    assert last - first + 1 == WORKER_PORTS
    assert last == this.port + PORTS - 1
    assert this.ray_address == "10.0.0.1:7471"


def test_the_password_of_redis_follows_from_the_secret(home: Home) -> None:
    assert cluster.redis_password(home) is None
    led().write(home)
    with pytest.raises(secret.NoSecret):
        cluster.redis_password(home)
    shared = secret.make(home.cluster_secret)
    password = cluster.redis_password(home)
    assert password == secret.key(shared, "redis")
    assert password not in {secret.key(shared, "ray"), secret.key(shared, "door"), shared}
    led(own_redis=True).write(home)
    assert cluster.redis_password(home) is None, "a server of the operator's own has its password in its URL"


@pytest.mark.parametrize("name", ["a", "A1", "gpu-07.rack_2", "x" * 63])
def test_names_that_a_node_may_have(name: str) -> None:
    assert cluster.wrong_name(name) is None


@pytest.mark.parametrize("name", ["", "-a", "a-", "a b", "a/b", "ä", "x" * 64, "a\n"])
def test_names_that_it_may_not_have(name: str) -> None:
    said = cluster.wrong_name(name)
    assert said is not None
    assert "letters, digits" in said
