"""API keys: made once, stored hashed, found by what people can see, ended for good."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.store.api_keys import (
    CreatedKey,
    KeyNotFound,
    KeyRefused,
    build_key,
    decode_keys,
    hash_key,
    list_keys,
)
from models.store.client import connect_async
from models.store.key_edits import create_key, revoke_key
from models.store.records import KeyRecord

pytestmark = pytest.mark.anyio
NOW = 1_700_000_000.0


def seeded(seed: int = 1) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def alike_but_for(tail: bytes) -> Callable[[int], bytes]:
    return lambda size: b"\0" * (size - 1) + tail


@pytest.fixture
def make(client, keys):
    """Stores a key of the given name; each has its own random bytes."""
    count = 0

    def _make(name: str, *scopes: str) -> CreatedKey:
        nonlocal count
        count += 1
        return create_key(client, keys, name, scopes or ("inference",), NOW + count, seeded(count))

    return _make


class TestMaking:
    @given(st.binary(min_size=24, max_size=24))
    def test_its_text_is_safe_to_paste_and_carries_all_the_randomness(self, random_part):
        text = build_key("n", ["admin"], NOW, lambda size: random_part[:size]).text
        assert re.fullmatch(r"rh-[A-Za-z0-9_-]{32}", text)

    def test_two_keys_differ(self):
        assert build_key("n", ["admin"], NOW).text != build_key("n", ["admin"], NOW).text

    def test_the_same_randomness_gives_the_same_key(self):
        assert build_key("n", ["admin"], NOW, seeded()) == build_key("n", ["admin"], NOW, seeded())

    def test_the_record_says_whose_it_is_but_not_what_it_is(self):
        created = build_key("  laptop ", ["inference", "admin", "inference"], NOW, seeded())
        assert created.record == KeyRecord(
            key_id=created.record.key_id,
            name="laptop",
            scopes=("inference", "admin"),
            prefix=created.text[:9],
            created_unix_s=NOW,
        )
        assert re.fullmatch(r"key_[0-9a-f]{12}", created.record.key_id)
        assert created.digest == hashlib.sha256(created.text.encode()).hexdigest() == hash_key(created.text)

    def test_a_printed_key_does_not_show_its_text(self):
        created = build_key("n", ["admin"], NOW)
        assert created.text not in repr(created)

    @pytest.mark.parametrize(
        ("name", "scopes", "said"),
        [
            ("n", [], "no scope; choose from inference, admin"),
            ("n", ["root"], "unknown scope 'root'"),
            ("n", ["admin", "Inference"], "unknown scope 'Inference'"),
            ("", ["admin"], "1 to 100 printable characters"),
            ("  ", ["admin"], "1 to 100 printable characters"),
            ("x" * 101, ["admin"], "1 to 100 printable characters"),
            ("a\nb", ["admin"], "1 to 100 printable characters"),
            ("a\x1b[31m", ["admin"], "1 to 100 printable characters"),
        ],
    )
    def test_what_cannot_be_made(self, client, keys, name, scopes, said):
        with pytest.raises(KeyRefused, match=said):
            create_key(client, keys, name, scopes, NOW)
        assert client.hlen(keys.api_keys) == 0

    @pytest.mark.parametrize("text", ["", "rh-x", "ü", "\udcff", "x" * 100_000])
    def test_anything_a_client_sends_can_be_hashed(self, text):
        assert re.fullmatch(r"[0-9a-f]{64}", hash_key(text))


class TestStoring:
    def test_the_text_is_nowhere_in_the_store(self, client, keys, make):
        created = make("laptop")
        stored = client.hgetall(keys.api_keys)
        assert list(stored) == [created.digest.encode()]
        assert created.text.encode() not in next(iter(stored.values()))
        assert decode_keys(stored) == {created.digest: created.record}

    def test_keys_are_listed_oldest_first(self, client, keys, make):
        made = [make(name).record for name in ("c", "a", "b")]
        assert list_keys(client, keys) == made

    def test_there_may_be_none(self, client, keys):
        assert list_keys(client, keys) == []

    def test_a_broken_entry_does_not_lock_the_others_out(self, client, keys, make, caplog):
        created = make("laptop")
        client.hset(keys.api_keys, "0badc0de" * 8, "{broken")
        client.hset(keys.api_keys, b"\xff\xff", "{}")
        assert list_keys(client, keys) == [created.record]
        assert "API key 0badc0de0bad" in caplog.text

    async def test_every_change_is_announced(self, url, client, keys, make):
        async with connect_async(url) as listener, listener.pubsub() as changes:
            await changes.subscribe(keys.api_keys_channel)
            assert (await changes.get_message(timeout=5))["type"] == "subscribe"
            created = make("laptop")
            assert (await changes.get_message(timeout=5))["data"] == b"1"
            revoke_key(client, keys, created.record.key_id, NOW)
            assert (await changes.get_message(timeout=5))["data"] == b"2" == client.get(keys.tenancy_version)


class TestRevoking:
    def test_by_id_by_beginning_or_by_the_whole_text(self, client, keys, make):
        for name_of in (lambda made: made.record.key_id, lambda made: made.record.prefix, lambda made: made.text):
            created = make("laptop")
            revoked = revoke_key(client, keys, name_of(created), NOW + 50)
            assert revoked.key_id == created.record.key_id
            assert revoked.revoked_unix_s == NOW + 50
            assert decode_keys(client.hgetall(keys.api_keys))[created.digest] == revoked

    def test_a_revoked_key_is_kept_for_the_record(self, client, keys, make):
        gone, stays = make("gone"), make("stays")
        revoke_key(client, keys, gone.record.key_id, NOW + 9)
        assert [key.name for key in list_keys(client, keys)] == ["gone", "stays"]
        assert list_keys(client, keys, revoked=False) == [stays.record]

    def test_doing_it_again_changes_nothing(self, client, keys, make):
        created = make("laptop")
        first = revoke_key(client, keys, created.record.key_id, NOW + 9)
        assert revoke_key(client, keys, created.record.key_id, NOW + 99) == first

    def test_others_go_on_working(self, client, keys, make):
        first, second = make("a"), make("b")
        revoke_key(client, keys, first.record.key_id, NOW)
        assert decode_keys(client.hgetall(keys.api_keys))[second.digest].revoked_unix_s is None

    def test_no_such_key(self, client, keys, make):
        make("laptop")
        for which in ("key_000000000000", "rh-", "", "laptop", "rh-zzzzzz"):
            with pytest.raises(KeyNotFound, match="`roundhouse keys list` shows their ids"):
                revoke_key(client, keys, which, NOW)

    def test_a_mistyped_key_is_not_repeated_in_the_message(self, client, keys, make):
        text = make("laptop").text
        with pytest.raises(KeyNotFound) as caught:
            revoke_key(client, keys, text[:-1] + "!", NOW)
        assert text[:20] not in str(caught.value)

    def test_a_beginning_that_two_keys_share(self, client, keys):
        made = [
            create_key(client, keys, name, ["admin"], NOW, alike_but_for(tail)).record
            for name, tail in (("a", b"\1"), ("b", b"\2"))
        ]
        assert made[0].prefix == made[1].prefix
        with pytest.raises(KeyNotFound) as caught:
            revoke_key(client, keys, made[0].prefix, NOW)
        assert all(key.key_id in str(caught.value) for key in made)
