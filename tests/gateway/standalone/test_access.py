"""Who may call a gateway that asks nobody about it."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from gateway.errors import Forbidden, Unauthorized
from gateway.standalone.access import Access, records_of
from gateway.standalone.keys_file import KeysFile
from gateway.standalone.loopback import is_loopback
from models.store.api_keys import hash_key
from models.store.records import KeyRecord

pytestmark = pytest.mark.anyio


def records(*keys: dict[str, object]) -> dict[str, KeyRecord]:
    listed = [{"hash": hash_key(str(key["name"])), **key} for key in keys]
    return records_of(KeysFile.model_validate({"keys": listed}))


def bearer(text: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {text}".encode())]


async def test_a_listed_key_is_known_with_its_weight_and_priority() -> None:
    access = Access(records({"name": "a", "weight": 3, "priority": 7, "id": "team-a"}))
    found = await access.authenticate(bearer("a"), "inference")
    assert (found.key_id, found.name, found.weight, found.priority) == ("team-a", "a", 3.0, 7)
    assert access.recall(hash_key("a"), "inference") is found, "the same each time: who caches by it may"
    assert await access.authenticate([(b"x-api-key", b"a")], "inference") is found


@pytest.mark.parametrize("headers", [[], bearer("b"), bearer("gone"), [(b"authorization", b"Basic YQ==")]])
async def test_others_are_not(headers: list[tuple[bytes, bytes]]) -> None:
    access = Access(records({"name": "a"}, {"name": "gone", "revoked": True}))
    with pytest.raises(Unauthorized):
        await access.authenticate(headers, "inference")


async def test_a_key_opens_what_its_scopes_say() -> None:
    access = Access(records({"name": "a", "scopes": ["admin"]}))
    assert (await access.authenticate(bearer("a"), "admin")).name == "a"
    with pytest.raises(Forbidden, match="'inference'"):
        access.recall(hash_key("a"), "inference")


async def test_other_keys_count_from_one_request_to_the_next() -> None:
    access = Access(records({"name": "a"}))
    access.replace(records({"name": "b"}))
    assert access.recall(hash_key("b"), "inference").name == "b"
    with pytest.raises(Unauthorized):
        access.recall(hash_key("a"), "inference")


async def test_a_key_ends_when_the_file_says() -> None:
    now = [0.0]
    access = Access(records({"name": "a", "expires": date(2026, 12, 31)}), unix=lambda: now[0])
    now[0] = datetime(2026, 12, 30, 23, 59, tzinfo=UTC).timestamp()
    assert access.recall(hash_key("a"), "inference").name == "a"
    now[0] = datetime(2026, 12, 31, tzinfo=UTC).timestamp()
    with pytest.raises(Unauthorized, match="expired"):
        access.recall(hash_key("a"), "inference")


async def test_what_a_key_may_call_is_in_its_record() -> None:
    access = Access(records({"name": "a", "models": ["org/*"], "endpoints": ["chat.*"], "scopes": ["admin:read"]}))
    found = access.recall(hash_key("a"), "admin:read")
    assert (found.models, found.endpoints) == (("org/*",), ("chat.*",))
    with pytest.raises(Forbidden):
        access.recall(hash_key("a"), "admin:write")


async def test_where_no_keys_are_named_everybody_may_call() -> None:
    access = Access(None)
    assert (await access.authenticate([], "inference")).key_id == "anybody"
    assert (await access.authenticate_hash(hash_key("whatever"), "inference")).key_id == "anybody"


@pytest.mark.parametrize(("host", "alone"), [
    ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("[::1]", True), ("localhost", True),
    ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.com", False), ("", False),
])  # fmt: skip
def test_which_addresses_are_this_machines_alone(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone
