"""Records go through Redis unchanged, and what is no record is named."""

from __future__ import annotations

import msgspec
import pytest

from models.store.client import connect_async
from models.store.codec import decode, encode, load, load_async, save, save_async
from models.store.errors import StoreDataError
from models.store.records import (
    Command,
    DecisionRecord,
    DemandReport,
    FleetRecord,
    ModelDemand,
    ModelRoute,
    ReplicaRoute,
    RouteTable,
)

pytestmark = pytest.mark.anyio

TABLE = RouteTable(
    version=7,
    models=(
        ModelRoute(
            model_id="org/tiny",
            aliases=("tiny",),
            replicas=(ReplicaRoute(replica_id="r1", endpoint="unix:/run/r1.http", state="ready"),),
        ),
    ),
)
RECORDS = [
    TABLE,
    DemandReport(
        worker="w", routes_version=1, sent_unix_s=1.5, models={"tiny": ModelDemand(held=2)}, replicas={"r": 1}
    ),
    Command(id="c", verb="wake", model_id="tiny"),
    FleetRecord(seq=1, updated_unix_s=2.0, controller_pid=3),
    DecisionRecord(
        id="", at_unix_s=1.0, snapshot_id="s", action="start", model_id=None, details={"a": [1, {"b": None}]}
    ),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_as_it_went(client, record):
    save(client, "k", record)
    assert load(client, "k", type(record)) == record


async def test_the_async_helpers_do_the_same(url):
    async with connect_async(url) as client:
        assert await load_async(client, "k", RouteTable) is None
        await save_async(client, "k", TABLE)
        assert await load_async(client, "k", RouteTable) == TABLE


def test_nothing_there_is_none(client):
    assert load(client, "k", RouteTable) is None


def test_a_record_expires_when_asked_to(client):
    save(client, "k", TABLE, ttl_s=3.0)
    assert 0 < client.pttl("k") <= 3000
    save(client, "k", TABLE)
    assert client.pttl("k") == -1


def test_lists_of_records(client):
    save(client, "k", [RECORDS[2]])
    assert load(client, "k", list[Command]) == [RECORDS[2]]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"version": "x"}', b'{"models": []}', b"\xff\xfe", "ü"])
def test_what_is_no_record_is_named_by_its_key(client, raw):
    client.set("rh:routes", raw)
    with pytest.raises(StoreDataError, match=r"what is stored under rh:routes is not a RouteTable: "):
        load(client, "rh:routes", RouteTable)


def test_a_newer_version_may_have_written_more():
    more = msgspec.json.decode(encode(TABLE))
    more["since_version_9"] = {"x": 1}
    assert decode(msgspec.json.encode(more), RouteTable, "k") == TABLE


def test_an_older_version_may_have_written_less():
    assert decode(b'{"model_id": "tiny"}', ModelRoute, "k") == ModelRoute(model_id="tiny")
