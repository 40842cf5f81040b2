"""From an alert in the stream to its receiver: once if all is well, again and again if not, and to no one else."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.billing.deliveries import WAITS_S, Deliveries, hook_id, wait_s, wants
from gateway.billing.outbound import Attempt
from gateway.billing.webhooks import CLAIM_S, HANDED_BACK_S, LAST_START, Webhooks, payload, try_all
from gateway.clock import Clock
from models.store.alerts import DELIVERED, FAILED, GIVEN_UP, Alert, Kind, tell
from models.store.client import connect_async
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.tenancy import NANO, HouseRecord, Webhook
from tests.gateway.billing.receiver import SECRET, receiver

pytestmark = pytest.mark.anyio
ALERT = Alert(kind=Kind.BUDGET_THRESHOLD, at=1_700_000_000_000_000, place="tenant:acme", tenant="acme", text="half")


@dataclass
class Receivers:
    """In place of the network. ``says``: by URL; what is not there is well."""

    says: dict[str, Attempt] = field(default_factory=dict)
    got: list[tuple[str, str, Any]] = field(default_factory=list)  # URL, id, body
    takes_s: float = 0.0
    clock: Any = None

    async def post(self, url: str, body: bytes, headers: dict[str, str], *, allow_private: bool) -> Attempt:
        message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(SECRET.removeprefix("whsec_"))
        signature = base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{signature}"
        self.got.append((url, headers["webhook-id"], msgspec.json.decode(body)))
        self.clock.now_s += self.takes_s
        return self.says.get(url, Attempt(True))


@dataclass
class Times:
    now_s: float = 1000.0


@dataclass
class Office:
    """Several processes may work on what is due: each has its own ``Webhooks``."""

    redis: Redis
    keys: Keys
    times: Times = field(default_factory=Times)
    house: HouseRecord = field(default_factory=HouseRecord)
    receivers: Receivers = field(default_factory=Receivers)

    def __post_init__(self) -> None:
        self.receivers.clock = self.times
        self.deliveries = Deliveries(self.redis, self.keys)

    def process(self) -> Webhooks:
        clock = Clock(unix=lambda: 1_700_000_000.0 + self.times.now_s, monotonic=lambda: self.times.now_s)

        async def house() -> HouseRecord:
            return self.house

        return Webhooks(Deliveries(self.redis, self.keys), self.receivers, house, clock, jitter=lambda: 0.5)

    def hooks(self, *hooks: Webhook) -> None:
        self.house = HouseRecord(webhooks=hooks)

    async def tell(self, alert: Alert = ALERT) -> None:
        await tell(self.redis, self.keys, alert)

    async def counts(self) -> tuple[int, dict[str, int]]:
        waiting, counts = await self.deliveries.figures()
        return waiting, dict(counts)


async def step(process: Webhooks) -> None:
    await process.step()
    await process.settled()


@pytest.fixture
async def office(redis_server: EmbeddedRedis, keys: Keys) -> AsyncIterator[Office]:
    redis = connect_async(redis_server.url)
    yield Office(redis, keys)
    await redis.aclose()


def hook(name: str, **facts: Any) -> Webhook:
    return Webhook(url=f"https://{name}.example/", secret=SECRET, **facts)


async def test_an_alert_gets_to_those_who_want_it_once(office: Office) -> None:
    office.hooks(hook("all"), hook("budgets", events=("budget.*",)), hook("others", events=("meter.*", "usage.*")))
    await office.tell()
    process = office.process()
    for _ in range(3):
        await step(process)
        office.times.now_s += 3600
    assert sorted(url for url, _, _ in office.receivers.got) == ["https://all.example/", "https://budgets.example/"]
    assert await office.counts() == (0, {DELIVERED: 2})


async def test_what_it_is_told(office: Office) -> None:
    office.hooks(hook("all"))
    alert = msgspec.structs.replace(
        ALERT, rule="money/month/*", share=0.5, used=12_500_000_000, amount=25 * NANO, text="50% is used"
    )
    await office.tell(alert)
    await step(office.process())
    assert office.receivers.got[0][2] == {
        "type": "budget.threshold",
        "timestamp": "2023-11-14T22:13:20Z",
        "data": {
            "place": "tenant:acme",
            "tenant": "acme",
            "rule": "money/month/*",
            "what": "money",
            "share": 0.5,
            "used": "12.5",
            "amount": "25",
            "text": "50% is used",
        },
    }


def test_tokens_are_whole_and_large_numbers_stay_readable() -> None:
    data = msgspec.json.decode(payload(Alert(kind="k", at=0, rule="tokens/day/*", used=10_000_000, amount=0)))["data"]
    assert (data["used"], data["amount"]) == ("10000000", "0")


def test_a_tenants_webhook_hears_of_that_tenant_only() -> None:
    own = hook("own", tenant="acme")
    assert wants(own, ALERT)
    assert not wants(own, msgspec.structs.replace(ALERT, tenant="other"))
    assert not wants(own, msgspec.structs.replace(ALERT, tenant=""))


async def test_one_that_fails_is_tried_again_ever_more_rarely_and_then_no_more(office: Office) -> None:
    office.hooks(hook("down"))
    office.receivers.says["https://down.example/"] = Attempt(False, "status 500")
    await office.tell()
    process, times = office.process(), []
    for _ in range(40):
        before = len(office.receivers.got)
        began_s = office.times.now_s
        await step(process)
        if len(office.receivers.got) > before:
            times.append(began_s)
        waiting = await office.redis.zrange(office.keys.webhooks_due, 0, 0, withscores=True)
        if not waiting:
            break
        office.times.now_s = float(waiting[0][1]) - 1_700_000_000.0
    gaps_s = [after - before for before, after in pairwise(times)]
    assert gaps_s == pytest.approx(list(WAITS_S), abs=0.01)
    assert len({name for _, name, _ in office.receivers.got}) == 1, "its receiver knows that it is the same one"
    assert await office.counts() == (0, {FAILED: len(WAITS_S), GIVEN_UP: 1})


async def test_it_goes_on_where_it_is_well_again(office: Office) -> None:
    office.hooks(hook("down"))
    office.receivers.says["https://down.example/"] = Attempt(False, "status 500")
    await office.tell()
    process = office.process()
    await step(process)
    office.receivers.says.clear()
    office.times.now_s += WAITS_S[0]
    await step(process)
    assert await office.counts() == (0, {FAILED: 1, DELIVERED: 1})


async def test_the_others_do_not_wait_for_one_that_is_down(office: Office) -> None:
    office.hooks(hook("down"), hook("well"))
    office.receivers.says["https://down.example/"] = Attempt(False, "status 500")
    for _ in range(10):
        await office.tell()
    await step(office.process())
    urls = [url for url, _, _ in office.receivers.got]
    assert urls.count("https://well.example/") == 10
    assert urls.count("https://down.example/") == 1, "nobody calls in vain for each"
    assert await office.counts() == (10, {DELIVERED: 10, FAILED: 1})


async def test_another_process_takes_over_what_a_dead_one_had_claimed(office: Office) -> None:
    office.hooks(hook("all"))
    await office.tell()
    dead = office.process()
    await dead.deliveries.read(office.house, dead.clock.steady())
    claimed = await dead.deliveries.claim(dead.clock.steady(), CLAIM_S, 10)  # ... and dies
    other = office.process()
    await step(other)
    assert office.receivers.got == []
    office.times.now_s += CLAIM_S
    await step(other)
    assert [name for _, name, _ in office.receivers.got] == [claimed[0].id]
    assert await office.counts() == (0, {DELIVERED: 1})


async def test_two_processes_tell_nobody_twice(office: Office) -> None:
    office.hooks(hook("all"))
    processes = office.process(), office.process()
    for _ in range(20):
        await office.tell()
        for process in processes:
            await step(process)
    names = [name for _, name, _ in office.receivers.got]
    assert len(names) == len(set(names)) == 20


async def test_what_takes_too_long_is_left_to_whoever_claims_it_next(office: Office) -> None:
    office.hooks(hook("slow"))
    office.receivers.takes_s = LAST_START * CLAIM_S / 2 + 1
    for _ in range(5):
        await office.tell()
    process = office.process()
    await step(process)
    assert len(office.receivers.got) == 2
    office.times.now_s += HANDED_BACK_S
    await step(process)
    assert len(office.receivers.got) == 4


async def test_a_receiver_that_wants_no_more_gets_no_more_of_it(office: Office) -> None:
    office.hooks(hook("gone"))
    office.receivers.says["https://gone.example/"] = Attempt(False, "status 410", gone=True)
    await office.tell()
    await step(office.process())
    assert await office.counts() == (0, {GIVEN_UP: 1})


async def test_what_was_for_a_webhook_that_is_gone_is_dropped(office: Office) -> None:
    office.hooks(hook("a"))
    office.receivers.says["https://a.example/"] = Attempt(False, "status 500")
    await office.tell()
    process = office.process()
    await step(process)
    office.hooks()
    office.times.now_s += 10
    await step(process)
    assert await office.counts() == (0, {FAILED: 1})
    assert await office.redis.hlen(office.keys.webhooks_open) == 0


async def test_who_comes_later_does_not_hear_of_what_was_before(office: Office) -> None:
    await office.tell()
    process = office.process()
    await step(process)
    office.hooks(hook("new"))
    await step(process)
    assert office.receivers.got == []


async def test_a_secret_that_is_changed_is_taken_up_by_what_is_open(office: Office) -> None:
    office.hooks(Webhook(url="https://a.example/", secret="nonsense"))
    await office.tell()
    process = office.process()
    await step(process)
    assert office.receivers.got == []
    office.hooks(hook("a"))
    office.times.now_s += WAITS_S[0]
    await step(process)
    assert await office.counts() == (0, {FAILED: 1, DELIVERED: 1})


async def test_what_cannot_be_read_is_told_and_stops_nothing(office: Office) -> None:
    office.hooks(hook("all"))
    await office.redis.xadd(office.keys.alerts, {"a": "nonsense"})
    await office.redis.xadd(office.keys.alerts, {"b": "nothing"})
    await office.tell()
    found, wrong = await office.deliveries.read(office.house, 0.0)
    assert (found, len(wrong)) == (3, 2)
    await office.redis.hset(office.keys.webhooks_open, "broken", "nonsense")
    await office.redis.zadd(office.keys.webhooks_due, {"broken": 0.0, "nowhere": 0.0})
    await step(office.process())
    assert await office.counts() == (0, {DELIVERED: 1, GIVEN_UP: 1})


def test_waits_differ_a_little_and_a_receiver_may_ask_for_more() -> None:
    assert (wait_s(1, 0.0), wait_s(1, 1.0)) == (4.0, 6.0)
    assert wait_s(1, 0.5, asked_s=90) == 90
    assert wait_s(2, 0.5, asked_s=1) == WAITS_S[1]
    assert wait_s(1, 0.5, asked_s=1e9) == 3600
    assert wait_s(len(WAITS_S) + 1, 0.5) is None
    assert sum(WAITS_S) > 24 * 3600


def test_a_webhook_is_the_same_one_while_its_secret_changes() -> None:
    assert hook_id(hook("a")) == hook_id(msgspec.structs.replace(hook("a"), secret="x", events=("b",)))
    assert hook_id(hook("a")) != hook_id(hook("a", tenant="acme"))


async def test_an_operator_can_try_them_out() -> None:
    async with receiver() as well, receiver(says=[500]) as ill:
        hooks = [Webhook(url=there.url, secret=SECRET, allow_private=True) for there in (well, ill)]
        refused = msgspec.structs.replace(hooks[0], allow_private=False)
        found = await try_all([*hooks, refused], Clock())
    assert [(hook, attempt.ok) for hook, attempt in found] == [(hooks[0], True), (hooks[1], False), (refused, False)]
    assert [body["type"] for body in well.bodies] == ["webhook.test"]
