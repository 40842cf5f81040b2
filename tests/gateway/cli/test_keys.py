"""Keys straight on the store, whether or not the service runs."""

from __future__ import annotations

import subprocess

import pytest

from gateway.service.processes import family
from models.home import Home
from models.store.api_keys import decode_keys, hash_key
from models.store.client import connect
from models.store.embedded import EmbeddedRedis, find_redis_server
from models.store.keys import Keys
from tests.gateway.cli.conftest import Cli, Started
from tests.gateway.service.eventually import eventually


def test_made_listed_revoked_without_a_service(cli: Cli, home: Home) -> None:
    made = cli("keys", "create", "alice")
    assert made.status == 0
    text = made.out.strip()
    assert text.startswith("rh-")
    assert len(made.out.splitlines()) == 1, "the key alone, for a shell to take"
    listed = cli("keys", "list")
    assert "alice" in listed.out
    assert text not in listed.out
    key_id = listed.out.splitlines()[1].split()[0]
    assert cli("keys", "revoke", key_id).status == 0
    assert "revoked" in cli("keys", "list").out
    assert family(home.instance) == frozenset(), "the store ran only while it was needed"


def test_as_json(cli: Cli, home: Home) -> None:
    made = cli("keys", "create", "bob", "--scope", "admin", "--scope", "inference", "--json").json
    assert made["scopes"] == ["admin", "inference"]
    with EmbeddedRedis(home) as server:
        stored = decode_keys(connect(server.url).hgetall(Keys().api_keys))
    assert stored[hash_key(made["key"])].name == "bob"
    (listed,) = cli("keys", "list", "--json").json["data"]
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert cli("keys", "revoke", made["key_id"], "--json").json["revoked_unix_s"] > 0


def test_a_store_that_runs_is_used(cli: Cli, home: Home) -> None:
    with EmbeddedRedis(home) as server:
        key = cli("keys", "create", "carol", "--json").json["key"]
        assert hash_key(key) in decode_keys(connect(server.url).hgetall(Keys().api_keys))


def test_a_dry_run_changes_nothing(cli: Cli) -> None:
    assert "would make" in cli("keys", "create", "dave", "--dry-run").out
    assert cli("keys", "list", "--json").json["data"] == []
    made = cli("keys", "create", "dave", "--json").json
    assert "would revoke" in cli("keys", "revoke", made["key_id"], "--dry-run").out
    assert cli("keys", "list", "--json").json["data"][0]["revoked_unix_s"] is None


@pytest.mark.parametrize(("arguments", "status", "code"), [
    (("create", "eve", "--scope", "root"), 2, "key_refused"),
    (("create", " "), 2, "key_refused"),
    (("revoke", "key_nobody"), 1, "key_not_found"),
])  # fmt: skip
def test_what_is_refused(cli: Cli, arguments: tuple[str, ...], status: int, code: str) -> None:
    said = cli("keys", *arguments, "--json")
    assert (said.status, said.error["code"]) == (status, code)


def test_a_server_of_the_operators_own(cli: Cli, home: Home, start: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.service.ports import free_port

    port = free_port("127.0.0.1")
    monkeypatch.setenv("ROUNDHOUSE_REDIS_URL", f"redis://127.0.0.1:{port}/3")
    said = cli("keys", "list", "--json")
    assert (said.status, said.error["code"]) == (1, "store_unavailable")
    server = str(find_redis_server().path)
    start(server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", stdout=subprocess.DEVNULL)
    eventually(lambda: cli("keys", "create", "frank", "--json").status == 0, "it answers")
    assert connect(f"redis://127.0.0.1:{port}/3").hlen(Keys().api_keys) == 1
    assert not home.redis_socket.exists(), "the embedded one was not started"
