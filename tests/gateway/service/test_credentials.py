"""Keys for the first steps: private, and the same for as long as they work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.service.credentials import Credentials, ensure, read, write
from models.home import Home
from models.store.api_keys import list_keys
from models.store.client import connect
from models.store.embedded import EmbeddedRedis
from models.store.key_edits import revoke_key
from models.store.keys import Keys

URL = "http://127.0.0.1:8000"


@pytest.fixture
def store(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    for name in ("ROUNDHOUSE_REDIS_URL", "ROUNDHOUSE_REDIS_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    with EmbeddedRedis(home) as server:
        client = connect(server.url)
        yield client
        client.close()


def test_two_keys_each_for_one_thing(home: Home, store: redis.Redis) -> None:
    made = ensure(home, URL, 100.0)
    assert made.url == URL
    stored = {key.name: (key.scopes, key.created_unix_s) for key in list_keys(store, Keys())}
    assert stored == {"demo inference": (("inference",), 100.0), "demo admin": (("admin",), 100.0)}
    assert read(home.demo_env) == {
        "ROUNDHOUSE_URL": URL,
        "ROUNDHOUSE_API_KEY": made.api_key,
        "ROUNDHOUSE_ADMIN_KEY": made.admin_key,
    }
    assert home.demo_env.stat().st_mode & 0o777 == 0o600


def test_keys_that_work_are_kept_and_the_url_is_renewed(home: Home, store: redis.Redis) -> None:
    first = ensure(home, URL, 100.0)
    second = ensure(home, "http://127.0.0.1:9", 200.0)
    assert second == Credentials("http://127.0.0.1:9", first.api_key, first.admin_key)
    assert read(home.demo_env)["ROUNDHOUSE_URL"] == "http://127.0.0.1:9"
    assert len(list_keys(store, Keys())) == 2


def test_a_revoked_key_is_replaced_and_the_other_kept(home: Home, store: redis.Redis) -> None:
    first = ensure(home, URL, 100.0)
    revoke_key(store, Keys(), first.api_key, 150.0)
    second = ensure(home, URL, 200.0)
    assert second.api_key != first.api_key
    assert second.admin_key == first.admin_key


def test_a_key_for_the_wrong_thing_is_replaced(home: Home, store: redis.Redis) -> None:
    first = ensure(home, URL, 100.0)
    write(home.demo_env, {"ROUNDHOUSE_API_KEY": first.admin_key, "ROUNDHOUSE_ADMIN_KEY": first.admin_key})
    second = ensure(home, URL, 200.0)
    assert second.api_key != first.admin_key
    assert second.admin_key == first.admin_key


def test_keys_of_another_store_are_replaced(home: Home, store: redis.Redis) -> None:
    first = ensure(home, URL, 100.0)
    store.flushall()
    assert ensure(home, URL, 200.0).api_key != first.api_key


def test_a_file_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "demo.env"
    path.write_text("A=1\n")
    path.chmod(0o644)
    write(path, {"A": "2"})
    assert path.read_text() == "A=2\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_reading_takes_what_it_can(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == {}
    (tmp_path / "some").write_text("# a comment\nA=1=2\n B = 3 \n\n")
    assert read(tmp_path / "some") == {"A": "1=2", "B": "3"}
