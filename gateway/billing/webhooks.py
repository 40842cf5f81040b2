"""Telling webhooks: alerts out of their stream, signed, tried again for a day, however often this process dies."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

import msgspec
import structlog
from redis.exceptions import RedisError

from gateway.billing.deliveries import WAITS_S, Deliveries, Delivery, hook_id, wait_s
from gateway.billing.outbound import Attempt, Poster
from gateway.billing.signing import headers
from gateway.clock import Clock
from gateway.ending import end
from models.store.alerts import DELIVERED, FAILED, GIVEN_UP, Alert, Kind
from models.store.errors import StoreError
from models.store.tenancy import MICRO, UNITS_OF, HouseRecord, Webhook
from models.store.webhook_checks import SecretNotValid, secrets_of

LOOK_S = 1.0
CLAIM_S = 60.0
CLAIM_AT_ONCE = 64
HANDED_BACK_S = 5.0  # what could not be tried in time, or waits for one that fails
LAST_START = 2 / 3  # of a claim: a try takes less than the rest
_DOWN = (RedisError, StoreError, OSError, TimeoutError)

log = structlog.get_logger(__name__)


class Post(Protocol):
    async def post(self, url: str, body: bytes, headers: dict[str, str], *, allow_private: bool) -> Attempt: ...


@dataclass(slots=True)
class Webhooks:
    """``house``: the rules in force, as they are now. ``jitter``: 0 to 1. ``claim_s``: how long others wait for this
    process before they take it for dead."""

    deliveries: Deliveries
    poster: Post
    house: Callable[[], Awaitable[HouseRecord]]
    clock: Clock
    jitter: Callable[[], float] = random.random
    claim_s: float = CLAIM_S
    _busy: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # by the webhook's id
    _rests: dict[str, float] = field(default_factory=dict)  # one that failed, until when, of the monotonic clock

    async def run(self) -> None:
        """Until it is cancelled. A store that is away is waited for."""
        away = False
        try:
            while True:
                try:
                    more = await self.step()
                    away = False
                except _DOWN as down:
                    more = False
                    if not away:
                        away = True
                        log.warning("webhooks wait for the store", reason=type(down).__name__)
                if not more:
                    await asyncio.sleep(LOOK_S)
        finally:
            await end(self._busy.values())

    async def step(self) -> bool:
        """One look at what is new and what is due. True: there may be more. Raises RedisError, StoreError."""
        house = await self.house()
        now_unix_s = self.clock.steady()
        found, wrong = await self.deliveries.read(house, now_unix_s)
        for one in wrong:
            log.error("an alert reaches no webhook", reason=one)
        claimed = await self.deliveries.claim(now_unix_s, self.claim_s, CLAIM_AT_ONCE)
        hooks = {hook_id(hook): hook for hook in house.webhooks}
        by_hook: dict[str, list[Delivery]] = {}
        for delivery in claimed:
            by_hook.setdefault(delivery.hook, []).append(delivery)
        for name, theirs in by_hook.items():
            await self._take(name, hooks.get(name), theirs)
        return bool(found) or len(claimed) == CLAIM_AT_ONCE

    async def settled(self) -> None:
        """Nothing of what was claimed is under way any more."""
        while self._busy:
            await asyncio.wait(tuple(self._busy.values()))

    async def _take(self, name: str, hook: Webhook | None, theirs: list[Delivery]) -> None:
        if hook is None:
            for delivery in theirs:
                await self.deliveries.over(delivery, "")
            log.info("deliveries are dropped: their webhook is gone", deliveries=len(theirs))
        elif name in self._busy:
            await self._hand_back(theirs, HANDED_BACK_S)
        else:
            task = self._busy[name] = asyncio.create_task(self._tell_all(name, hook, theirs))
            task.add_done_callback(lambda done: self._told(name, done))

    def _told(self, name: str, done: asyncio.Task[None]) -> None:
        self._busy.pop(name, None)
        if not done.cancelled() and (error := done.exception()) is not None:
            if isinstance(error, _DOWN):  # the claim runs out, and it is tried again
                log.warning("a webhook waits for the store", reason=type(error).__name__)
            else:
                log.error("telling a webhook failed", exc_info=error)

    async def _tell_all(self, name: str, hook: Webhook, theirs: list[Delivery]) -> None:
        """One after the other: when one fails, the others wait with it, and nobody is called in vain for each."""
        began_s = self.clock.monotonic()
        while theirs:
            now_s = self.clock.monotonic()
            rest_s = self._rests.get(name, now_s) - now_s
            if rest_s > 0 or now_s - began_s > LAST_START * self.claim_s:
                await self._hand_back(theirs, max(rest_s, HANDED_BACK_S))
                return
            delivery = theirs.pop(0)
            attempt = await deliver(self.poster, hook, delivery.id, delivery.alert, self.clock)
            await self._settle(name, hook, delivery, attempt)

    async def _settle(self, name: str, hook: Webhook, delivery: Delivery, attempt: Attempt) -> None:
        if attempt.ok:
            self._rests.pop(name, None)
            await self.deliveries.over(delivery, DELIVERED)
            return
        tries = delivery.tries + 1
        wait = None if attempt.gone else wait_s(tries, self.jitter(), attempt.retry_after_s)
        told = {"url": hook.url, "alert": delivery.alert.kind, "tries": tries, "reason": attempt.reason}
        if wait is None:
            log.error("a webhook is not told: nobody tries again", **told)
            await self.deliveries.over(delivery, GIVEN_UP)
            return
        log.warning("a webhook is not told yet", again_in_s=round(wait), **told)
        self._rests[name] = self.clock.monotonic() + min(wait, WAITS_S[1])
        again = msgspec.structs.replace(delivery, tries=tries)
        await self.deliveries.again(again, self.clock.steady() + wait, FAILED)

    async def _hand_back(self, theirs: list[Delivery], wait: float) -> None:
        due_unix_s = self.clock.steady() + wait
        for delivery in theirs:
            await self.deliveries.again(delivery, due_unix_s)


async def deliver(poster: Post, hook: Webhook, message_id: str, alert: Alert, clock: Clock) -> Attempt:
    """One try."""
    body = payload(alert)
    try:
        signed = headers(message_id, int(clock.unix()), body, secrets_of(hook.secret))
    except SecretNotValid as wrong:
        return Attempt(False, str(wrong))
    return await poster.post(hook.url, body, signed, allow_private=hook.allow_private)


async def try_all(
    hooks: Iterable[Webhook], clock: Clock, poster: Poster | None = None
) -> list[tuple[Webhook, Attempt]]:
    """Each is told that it is reached, once: what came of it."""
    poster = poster or Poster()
    found = []
    try:
        for hook in hooks:
            at_us = int(clock.steady() * MICRO)
            alert = Alert(kind=Kind.TEST, at=at_us, tenant=hook.tenant, text="Roundhouse reaches this webhook.")
            found.append((hook, await deliver(poster, hook, f"msg_test_{at_us}", alert, clock)))
    finally:
        await poster.close()
    return found


def payload(alert: Alert) -> bytes:
    """Amounts are exact decimals of what the rule counts: of money, the currency itself."""
    what = alert.rule.partition("/")[0]
    told: dict[str, Any] = {"place": alert.place, "tenant": alert.tenant, "rule": alert.rule, "what": what}
    told |= {"share": alert.share, "used": _amount(what, alert.used), "amount": _amount(what, alert.amount)}
    data = {name: value for name, value in told.items() if value not in (None, "")} | {"text": alert.text}
    at = datetime.fromtimestamp(alert.at / MICRO, UTC).isoformat().replace("+00:00", "Z")
    return msgspec.json.encode({"type": alert.kind, "timestamp": at, "data": data})


def _amount(what: str, units: int | None) -> str | None:
    return None if units is None else f"{(Decimal(units) / _UNITS.get(what, 1)).normalize():f}"


_UNITS: dict[str, int] = {str(what): units for what, units in UNITS_OF.items()}
