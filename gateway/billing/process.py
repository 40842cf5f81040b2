"""The meter of a machine: ships what its gateway workers metered, and settles all of it where it has the lease.

Whoever has the lease also tells webhooks, looks for keys that use unusually much, and copies to PostgreSQL. The store
may come and go: what is metered stays on disk meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.billing.books import SETTLED_MAX, Overtaken
from gateway.billing.settler import Settler
from gateway.billing.shipper import SECOND_US, Shipper
from gateway.clock import Clock
from gateway.ending import end
from models.home import Home
from models.store import meters
from models.store.alerts import Alert, Kind, tell
from models.store.keys import Keys
from models.store.lease import Lease
from models.store.usage import MeterStatus

SHIP_EVERY_S = 0.5
SETTLE_EVERY_S = 1.0
LEASE_S = 5.0
RENEW_EVERY_S = 1.0
STATUS_EVERY_S = 2.0
LONGEST_WAIT_S = 5.0
LAST_WORD_S = 3.0
BEHIND_S = 120.0  # what is settled, before operators are told
TOLD_AGAIN_S = 3600.0

Task = Callable[[], Awaitable[None]]
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Meter:
    """``others``: what else is done where the lease is. ``token``: no other process ever has the same."""

    redis: Redis
    keys: Keys
    home: Home
    machine: str
    clock: Clock
    token: str
    others: tuple[Task, ...] = ()
    kept: Callable[[], int] = lambda: SETTLED_MAX  # settled events in the store
    shipper: Shipper = field(init=False)
    settler: Settler = field(init=False)
    _lease: Lease = field(init=False)
    _settles: bool = False
    _problems: dict[str, str] = field(default_factory=dict)
    _told_s: float = float("-inf")
    _since_s: float = 0.0

    def __post_init__(self) -> None:
        now = self.clock.steady
        self.shipper = Shipper(self.redis, self.keys, self.home, self.machine, now)
        self.settler = Settler(self.redis, self.keys, now, self.kept)
        self._lease = Lease(self.redis, self.keys.usage_lease, self.token, LEASE_S)

    async def run(self, stopping: asyncio.Event) -> None:
        """Until it is told to stop; then what there is to ship is shipped, if the store answers."""
        tasks = [
            asyncio.create_task(self._again_and_again("shipping", self._ship, SHIP_EVERY_S)),
            asyncio.create_task(self._again_and_again("the lease", self._hold_office, RENEW_EVERY_S)),
            asyncio.create_task(self._again_and_again("its status", self._tell, STATUS_EVERY_S)),
        ]
        try:
            await stopping.wait()
        finally:
            await end(tasks)
        with contextlib.suppress(RedisError, OSError, TimeoutError, Overtaken):
            async with asyncio.timeout(LAST_WORD_S):
                await self._leave()

    async def _leave(self) -> None:
        await self.shipper.step()
        if await self._lease.renew():
            while await self.settler.step():
                pass
            await self._lease.release()
        await self.shipper.leave()
        await self.redis.hdel(self.keys.usage_meters, self.machine)

    async def _again_and_again(self, what: str, act: Task, every_s: float) -> None:
        """What fails is said once, and tried again."""
        wait_s = every_s
        while True:
            try:
                await act()
                if self._problems.pop(what, ""):
                    log.info("the meter goes on", what=what)
                wait_s = every_s
            except (RedisError, OSError, TimeoutError) as failed:
                problem = f"{what}: {str(failed) or type(failed).__name__}"
                if what not in self._problems:
                    log.warning("the meter waits", what=what, reason=problem)
                self._problems[what] = problem
                wait_s = min(LONGEST_WAIT_S, wait_s * 1.5)
            await asyncio.sleep(wait_s)

    async def _ship(self) -> None:
        await self.shipper.step()

    async def _hold_office(self) -> None:
        """While it has the lease it settles. One that has lost it without knowing does no harm: the books tell."""
        if not await self._lease.take():
            return
        log.info("this meter settles", machine=self.machine)
        self._settles, self._since_s = True, self.clock.monotonic()
        self.settler.forget()
        tasks = [asyncio.create_task(self._again_and_again("settling", self._settle, SETTLE_EVERY_S))]
        tasks += [asyncio.create_task(self._other(act)) for act in self.others]
        try:
            while True:
                await asyncio.sleep(RENEW_EVERY_S)
                with contextlib.suppress(RedisError):  # settling complains of it
                    if not await self._lease.take():
                        log.info("another meter settles now", machine=self.machine)
                        return
        finally:
            self._settles = False
            await end(tasks)

    async def _settle(self) -> None:
        try:
            while await self.settler.step():
                await asyncio.sleep(0)
        except Overtaken as overtaken:
            log.warning("settling begins anew", reason=str(overtaken))
        except (RedisError, TimeoutError):
            self.settler.forget()  # nobody knows whether it was written
            raise

    async def _other(self, act: Task) -> None:
        """One that fails must not end the rest."""
        while True:
            try:
                await act()
            except asyncio.CancelledError:
                raise
            except Exception:
                log.exception("a part of the meter failed and begins anew")
            await asyncio.sleep(LONGEST_WAIT_S)

    async def _tell(self) -> None:
        """What this meter is about, for whoever asks; and operators, when bills get old."""
        status = self.status()
        await meters.tell(self.redis, self.keys, status)
        behind_s = self.behind_s()
        now_s = self.clock.monotonic()
        if behind_s > BEHIND_S and now_s - self._told_s > TOLD_AGAIN_S:
            self._told_s = now_s
            text = f"usage is settled up to {behind_s:.0f} s ago; it waits for {self.settler.waits_for}"
            log.error("the meter is behind", behind_s=round(behind_s), waits_for=self.settler.waits_for)
            await tell(self.redis, self.keys, Alert(kind=Kind.METER_BEHIND, at=status.at_us, text=text))
        elif behind_s < BEHIND_S / 2:
            self._told_s = float("-inf")

    def behind_s(self) -> float:
        """How old what is settled is; 0 where another one settles, and while this one has only begun."""
        if not self._settles or not self.settler.settled_us or self.clock.monotonic() - self._since_s < BEHIND_S / 2:
            return 0.0
        return self.clock.steady() - self.settler.settled_us / SECOND_US

    def status(self) -> MeterStatus:
        settler, shipper = self.settler, self.shipper
        return MeterStatus(
            machine=self.machine,
            at_us=int(self.clock.steady() * SECOND_US),
            spools=shipper.spools,
            shipped=shipper.shipped,
            lost_bytes=shipper.lost_bytes,
            settles=self._settles,
            settled_us=settler.settled_us,
            settled=settler.settled,
            held=settler.held,
            late_us=settler.late_us,
            waits_for=settler.waits_for if self._settles else "",
            problem=next(iter(self._problems.values()), shipper.problem),
        )


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """One meter looks after a machine's spools. False: another one does. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / "meter.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(lock)
