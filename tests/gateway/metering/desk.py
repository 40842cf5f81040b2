"""A recorder and its requests for tests, on a clock that they set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.accounts import Account
from gateway.clock import Clock
from gateway.exchange import Exchange, Usage
from gateway.inquiry import Caller
from gateway.metering.metered import Metered
from gateway.metering.reader import Spool, spools
from gateway.metering.recorder import Recorder
from models.home import Home
from models.store.records import KeyRecord
from models.store.tenancy import HouseRecord, PriceList, ProjectRecord, TenantRecord
from models.store.usage import UsageEvent

START_S = 1_795_000_000.0


@dataclass
class Watch:
    """``at_s``: monotonic. ``unix_s``: what the machine's clock says at 0; setting it is a step of that clock."""

    at_s: float = 100.0
    unix_s: float = START_S

    def clock(self) -> Clock:
        return Clock(unix=lambda: self.unix_s + self.at_s, monotonic=lambda: self.at_s)


def account(tenant: str = "acme", prices: str = "standard") -> Account:
    scopes = ("inference",)
    record = KeyRecord(key_id="key_1", prefix="rh-1", name="k", scopes=scopes, created_unix_s=0.0, tenant=tenant)
    house = HouseRecord(price_lists={prices: PriceList(name=prices)}, default_price_list=prices)
    project = ProjectRecord(name="default")
    return Account(Caller(tenant, key_id="key_1"), record, project, TenantRecord(tenant_id=tenant), house)


class Request(Metered):
    def __init__(self, exchange: Exchange, account: Account) -> None:
        self.exchange = exchange
        self._account = account

    @property
    def account(self) -> Account:
        return self._account


class Desk:
    """One worker's."""

    def __init__(self, folder: Path, watch: Watch | None = None, worker: str = "w1", **sizes: Any) -> None:
        self.home = Home(folder)
        self.watch = watch or Watch()
        self.account = account()
        self.recorder = Recorder(self.home, worker, self.watch.clock(), **{"room_bytes": 0} | sizes)
        self._worker = worker
        self._dead = False

    @property
    def spool(self) -> Spool:
        return next(spool for spool in spools(self.home) if spool.worker == self._worker)

    def request(self, request_id: str, replica: str | None = "m-1", **facts: Any) -> Request:
        """One that begins now."""
        given: dict[str, Any] = {
            "key_id": "key_1", "project": "default", "tenant": "acme", "model": "m", "endpoint": "chat.completions",
            "replica": replica,
        }  # fmt: skip
        made = Request(
            Exchange(request_id, "POST", "/v1/chat/completions", self.watch.at_s, **given | facts), self.account
        )
        if replica is not None:
            made.from_s = self.watch.at_s
        return made

    def over(self, request: Request, usage: Usage | None = None, status: int = 200) -> None:
        request.exchange.usage = usage or request.exchange.usage
        self.recorder.over(request, status, self.account)

    def note(self, request: Request) -> bool:
        return self.recorder.note(request, self.account)

    def tick(self, *flying: Request, after_s: float = 0.1) -> None:
        self.watch.at_s += after_s
        self.recorder.tick(flying)

    def unix_us(self, at_s: float) -> int:
        return int((self.watch.unix_s + at_s) * 1e6)

    def die(self) -> None:
        """As if by kill -9: nothing is closed in order, and the lock is gone."""
        os.close(self.recorder._lock)

    def events(self, offset: int = 0) -> list[UsageEvent]:
        return all_of(self.spool, offset)


def all_of(spool: Spool, offset: int = 0, most: int = 10_000) -> list[UsageEvent]:
    found = []
    while (batch := spool.read(offset, most)).events:
        assert batch.offset > offset
        assert batch.lost_bytes == 0
        offset = batch.offset
        found += batch.events
    return found
