"""GET /admin/v1/why: one answer with state, decision, what a call would meet, and what would help."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway import why_api, why_helps, why_views
from gateway.plan_documents import IfCalled, LeavingView
from models.store.codec import encode
from models.store.records import Failure, FleetRecord, GpuRecord, ModelRecord, NodeRecord, WarmRecord
from tests.gateway.test_http_admin import ask, card, fleet
from tests.gateway.test_http_decisions import write
from tests.gateway.test_http_packing import controller
from tests.gateway.world import World

pytestmark = pytest.mark.anyio
GIB = 1 << 30


@pytest.fixture
async def ruled(world: World) -> World:
    """n serves, org/m has no replica."""
    first = msgspec.structs.replace(
        fleet().replicas[0], replica_id="n-1", model_id="n", in_flight=1, state_since_unix_s=990.0
    )
    record = msgspec.structs.replace(fleet(), replicas=(first,), ledger=())
    await world.redis.set(world.keys.fleet, encode(record))
    await world.redis.set(world.keys.catalog, encode((card("org/m", "alias"), card("n"))))
    return world


async def test_a_model_that_serves_says_where_and_which_decision_brought_it_there(ruled: World) -> None:
    await write(ruled, "k1", model_id="n", replica_id="n-1", reason="n has no replica and 1 request waits")
    for number in range(20):
        await write(ruled, f"h{number}", "hold", model_id="n", replica_id=None)
    await write(ruled, "k2", "ready", of="k1", model_id="n", replica_id="n-1")
    async with controller(ruled):
        status, body = await ask(ruled, "why?model=n&limit=3")
    assert (status, body["subject"], body["summary"]) == (200, "model", "n serves on node/0")
    (replica,) = body["replicas"]
    assert replica["because"]["reason"] == "n has no replica and 1 request waits"
    assert replica["because"]["outcome"]["took_s"] == 0.28
    assert replica["keeps"] == "it is busy: 1 in flight"
    assert body["if_called"]["outcome"] == "serves"
    assert len(body["decisions"]) == 3
    assert body["helps"] == []


async def test_a_model_that_waits_says_for_whom_and_what_would_help(ruled: World) -> None:
    async with controller(ruled):
        _, body = await ask(ruled, "why?model=alias")
    assert body["name"] == "org/m"
    assert body["summary"] == "org/m has no replica"
    assert body["if_called"]["outcome"] == "hold"
    assert body["helps"] == ["fits on node/0 if n (busy) sleeps: 1 s to wake it again"]


async def test_without_a_controller_it_tells_what_is_known(ruled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(why_api, "ACCEPT_TIMEOUT_S", 0.1)
    status, body = await ask(ruled, "why?model=n")
    assert (status, body["if_called"]) == (200, None)
    assert "No controller took the order" in body["unknown"]
    assert body["summary"] == "n serves on node/0"


async def test_a_replica_also_one_that_is_gone(ruled: World) -> None:
    await write(ruled, "k1", "died", model_id="n", replica_id="n-0", reason="n-0 is gone: killed by signal 9")
    _, here = await ask(ruled, "why?replica=n-1")
    assert here["summary"] == "n-1 of n serves on node/0"
    assert here["helps"] == ["why its model is where it is: roundhouse why n"]
    _, gone = await ask(ruled, "why?replica=n-0")
    assert (gone["summary"], gone["replicas"]) == ("n-0 is gone: killed by signal 9", [])
    await write(ruled, "k2", "stopped", model_id="n", replica_id="n-0", reason="not used for 10 min")
    assert (await ask(ruled, "why?replica=n-0"))[1]["summary"] == "n-0 is gone: not used for 10 min"
    status, body = await ask(ruled, "why?replica=n-9")
    assert (status, body["error"]["param"]) == (404, "replica")


async def test_a_gpu_with_who_is_on_it(ruled: World) -> None:
    await write(ruled, "k1", model_id="n", replica_id="n-1", gpu="node/0")
    _, body = await ask(ruled, "why?gpu=node/0")
    assert body["summary"] == "node/0 has 1 replica; 1024 MiB of 1 GiB free"
    assert [each["replica_id"] for each in body["replicas"]] == ["n-1"]
    assert body["helps"] == ["to see what emptying it would do: roundhouse gpus drain node/0 --dry-run"]
    status, body = await ask(ruled, "why?gpu=node/9")
    assert (status, body["error"]["code"]) == (404, "gpu_not_found")
    assert "these are there: node/0, node/1" in body["error"]["message"]


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("", 400, "model"),
        ("?model=n&gpu=x", 400, "model"),
        ("?model=nobody", 404, "model"),
        ("?model=n&limit=0", 400, "limit"),
    ],
)
async def test_what_is_asked_wrongly(ruled: World, query: str, status: int, param: str) -> None:
    got, body = await ask(ruled, f"why{query}")
    assert (got, body["error"]["param"]) == (status, param)


# What would help: each with its command.


def helps(record: ModelRecord, answer: IfCalled | None = None, of: FleetRecord | None = None) -> list[str]:
    return list(why_helps.of_model(record, of, answer, 1000.0))


def changed(**changes: Any) -> ModelRecord:
    return msgspec.structs.replace(card("m"), **changes)


def failure(**more: Any) -> Failure:
    given = {"message": "no weights", "code": "model_start_failed", "at_unix_s": 1.0, "retry_at_unix_s": 1012.0}
    return Failure(**{**given, **more})


def test_a_failure_says_when_it_is_tried_again_or_what_has_to_change() -> None:
    assert helps(changed(failure=failure())) == [
        "its last start failed (no weights); tried again in 12 s, or by: roundhouse models wake m"
    ]
    assert "at its next call" in helps(changed(failure=failure(retry_at_unix_s=5.0)))[0]
    (lasting,) = helps(changed(failure=failure(permanent=True)))
    assert "correct its card or its files; to try at once: roundhouse models wake m" in lasting


def test_what_its_card_should_say() -> None:
    assert helps(changed(max_replicas=0)) == ["it is switched off: set max_replicas of m to at least 1 in its card"]
    assert "correct declared" in helps(changed(excess_bytes=GIB))[0]
    assert "failed its canary 2 times" in helps(changed(quarantined=2))[0]


def test_callers_that_will_wait_can_be_spared() -> None:
    start = IfCalled(outcome="start", summary="would start", wait_s=8.0)
    assert helps(changed(), start) == [
        "its next callers wait for 8.0 s; to keep it ready: roundhouse warm m --until 18:00, or min_replicas: 1 in its "
        "card"
    ]
    assert helps(changed(), msgspec.structs.replace(start, wait_s=0.2)) == []
    stops = LeavingView(model_id="x", replica_id="x-1", gpu="g", sleeps=False, back_s=9.0)
    evicts = msgspec.structs.replace(start, outcome="evict", leaving=(stops,))
    assert "x would be stopped, not put to sleep: more host_memory" in helps(changed(), evicts)[-1]


def gpu(number: int, free: int, **more: Any) -> GpuRecord:
    return GpuRecord(
        id=f"n/{number}", node="n", index=number, name="simulated", simulated=True, memory_bytes=100,
        reserved_bytes=100 - free, free_bytes=free, **more,
    )  # fmt: skip


def test_memory_in_pieces_and_drained_gpus_are_pointed_out() -> None:
    hold = IfCalled(outcome="hold", summary="waits", counterfactuals=("fits if x sleeps",))
    needs = changed(footprint={"weights": 50, "kv_cache": 10, "overhead": 0})
    pieces = msgspec.structs.replace(fleet(), gpus=(gpu(0, 40), gpu(1, 40)))
    assert helps(needs, hold, pieces) == [
        "fits if x sleeps", "80 B are free, but in pieces: roundhouse defrag --dry-run",
    ]  # fmt: skip
    whole = msgspec.structs.replace(fleet(), gpus=(gpu(0, 40), gpu(1, 70)))
    assert helps(needs, hold, whole) == ["fits if x sleeps"]
    drained = msgspec.structs.replace(fleet(), gpus=(gpu(0, 40), gpu(1, 40, cordoned=True)))
    assert helps(needs, hold, drained)[-1] == "drained GPUs take nothing: roundhouse gpus undrain n/1"


def test_a_configuration_that_is_not_in_force() -> None:
    wrong = msgspec.structs.replace(fleet(), config_error="models[0].ttl: is negative")
    assert helps(changed(), None, wrong) == ["the configuration on disk is not in force: models[0].ttl: is negative"]


def test_a_gpu_that_is_lost_drained_or_used_by_others() -> None:
    assert "nothing can be placed there: Xid 79" in next(why_helps.of_gpu(gpu(0, 50, lost="Xid 79")))
    assert next(why_helps.of_gpu(gpu(0, 50, cordoned=True))).endswith("roundhouse gpus undrain n/0")
    assert "in use that nobody has reserved" in list(why_helps.of_gpu(gpu(0, 50, used_bytes=90)))[-1]
    assert list(why_helps.of_gpu(gpu(0, 50, closed="n is cordoned"))) == [
        "nothing new goes there (n is cordoned): roundhouse node list"
    ]
    assert len(list(why_helps.of_gpu(gpu(0, 50, lost="Xid 79")))) == 1, "a lost one is not to be drained"


def test_a_node_that_operators_have_closed_is_pointed_out_to_who_waits() -> None:
    refused = IfCalled(outcome="hold", summary="every GPU is left out: n is cordoned")
    node = NodeRecord(id="n", address="", host_bytes=0, host_reserved_bytes=0, cordoned=True)
    closed = msgspec.structs.replace(fleet(), nodes=(node,), gpus=(gpu(0, 90, closed="n is cordoned"),))
    needs = changed(footprint={"weights": 50, "kv_cache": 10, "overhead": 0})
    assert helps(needs, refused, closed) == ["nothing new goes to n, which is cordoned: roundhouse node uncordon n"]


def keeps(warm: WarmRecord | None, state: str = "ready") -> str:
    replica = msgspec.structs.replace(
        fleet().replicas[0], model_id="m", state=state, state_since_unix_s=990.0, last_used_unix_s=990.0
    )
    kept = msgspec.structs.replace(fleet(), replicas=(replica,), warm=(warm,) if warm else ())
    (shown,) = why_views.why_model(card("m"), kept, (), None, None, 1000.0).replicas
    return shown.keeps


def test_what_is_kept_warm_does_not_leave_when_nobody_calls() -> None:
    ordered = WarmRecord(
        model_id="m", by="operator", asked=1, replicas=1, from_unix_s=1.0, until_unix_s=None, state="warm"
    )
    assert keeps(ordered) == "1 of its model is kept warm (operator)"
    idle = "if nobody calls it, it leaves its GPU in 50 s (ttl 60 s), or when others need its memory"
    assert keeps(None) == keeps(msgspec.structs.replace(ordered, state="planned")) == idle
    assert "it ends in 590 s (10 times ttl 60 s)" in keeps(ordered, "asleep")


def test_a_replica_on_a_node_that_is_away_may_not_serve() -> None:
    node = NodeRecord(id="node", address="", host_bytes=0, host_reserved_bytes=0, state="away")
    cut_off = msgspec.structs.replace(fleet(), nodes=(node,))
    (told,) = why_helps.of_model(card("org/m"), cut_off, None, 1000.0)
    assert told.startswith("node does not answer: calls of it there may wait")
    assert told.endswith("roundhouse node reclaim node --in 1s")
    assert helps(changed(), None, cut_off) == [], "one that is not there is none of its concern"
