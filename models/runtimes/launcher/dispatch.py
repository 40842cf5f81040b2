"""Brings orders and children together: an order goes to a spare if there is one, else a child is forked for it.

Until a child has greeted the peer the order is still the launcher's: if the child dies or stays silent, the next one
gets it. Spares are replaced only when no order has come for a while: a fork beside the start of an engine takes its
processor and its page tables' locks away from it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from models.runtimes.launcher.children import Children
from models.runtimes.launcher.handover import GREETED, hand_over
from models.runtimes.launcher.peers import Ordered
from models.runtimes.launcher.spares import Spare, Spares
from models.runtimes.protocol import EngineOrder
from models.runtimes.torch.shared_process import shares_process
from models.runtimes.torch.shared_table import SharedTable

log = logging.getLogger("roundhouse.launcher")

MOST_WAITING_ORDERS = 256
MOST_OUTSTANDING = 32  # children that are asked for at a time: they are forked one after the other anyway
MOST_LOST = 3  # children that may die with the same order before they greet
GREETING_TIMEOUT_S = 15.0
QUIET_S = 1.0  # without an order before a spare is forked
LONGEST_UNREST_S = 5.0  # after which one is forked all the same
LONGEST_PAUSE_S = 60.0  # when spares die as they come


class Forker(Protocol):
    """A warm zygote. ``outstanding``: children that were asked for and have not come yet."""

    number: int
    outstanding: int

    def fork(self) -> None: ...


@dataclass(eq=False)
class Handed:
    """A child that has an order and has not greeted yet."""

    spare: Spare
    ordered: Ordered
    patience: asyncio.TimerHandle


class Dispatch:
    """``unknown`` says why a runtime of that name cannot be had, None when it can."""

    def __init__(self, children: Children, wanted_spares: int, unknown: Callable[[str], str | None]) -> None:
        self.started = 0
        self.spares = Spares(self._spare_died)
        self._children = children
        self._wanted = wanted_spares
        self._unknown = unknown
        self._forker: Forker | None = None
        self._open = False  # once a zygote has been warm
        self._waiting: deque[Ordered] = deque()
        self._handed: dict[int, Handed] = {}
        self._after: dict[int, list[Ordered]] = {}  # orders that wait for the end of a child
        self._shared = SharedTable(children, self._begun, self._lost)
        self._refill: asyncio.TimerHandle | None = None
        self._unrest_since_s: float | None = None
        self._pause_s = QUIET_S

    # Orders

    def take(self, ordered: Ordered) -> None:
        if not self._open and len(self._waiting) >= MOST_WAITING_ORDERS:
            why = f"the launcher is still warming and {MOST_WAITING_ORDERS} orders wait already"
            self._decline(ordered, why)
            return
        self._waiting.append(ordered)
        self._pump()

    def decline_all(self, why: str) -> None:
        """Nothing will come to those that wait."""
        waiting, self._waiting = self._waiting, deque()
        for ordered in waiting:
            self._decline(ordered, why)

    def _decline(self, ordered: Ordered, why: str) -> None:
        log.warning("%s: %s", ordered.order.replica_id, why)
        ordered.decline(why)

    def _pump(self) -> None:
        """Give out what can be given out, and ask for as many children as are missing."""
        if not self._open:
            return
        for ordered in tuple(self._waiting):
            if not self._admit(ordered):
                self._waiting.remove(ordered)
                continue
            if shares_process(ordered.order):
                place = self._shared.place(ordered)
                if place == "handed":
                    self._waiting.remove(ordered)
                if place != "child":
                    continue
            spare = self.spares.take()
            if spare is not None:
                self._waiting.remove(ordered)
                self._hand(ordered, spare)
        if self._forker is not None:
            for _ in range(min(MOST_OUTSTANDING, len(self._waiting)) - self._forker.outstanding):
                self._forker.fork()

    def _admit(self, ordered: Ordered) -> bool:
        """Whether a child may have it now; if not, it is taken care of."""
        order = ordered.order
        if ordered.peer.hung_up():
            log.info("%s is wanted no more", order.replica_id)
            ordered.peer.connection.close()
            return False
        unknown = self._unknown(order.runtime)
        if unknown is not None:
            self._decline(ordered, unknown)
            return False
        pid = self._children.of(order.control_path)
        if pid is None:
            return True
        if self._children.is_ending(pid):
            self._after.setdefault(pid, []).append(ordered)
        else:
            self._decline(ordered, f"replica {order.replica_id} is running already")
        return False

    def _hand(self, ordered: Ordered, spare: Spare) -> None:
        self._put_refill_off()
        try:
            hand_over(spare.channel, ordered.order, ordered.peer.connection, ordered.received_s)
        except OSError as problem:
            spare.let_go()
            if isinstance(problem, ConnectionError):  # it died a moment ago, and has not seen the order
                self._waiting.appendleft(ordered)
            else:
                self._lost(ordered, f"the child {spare.pid} could not be given its order ({problem.strerror})")
            asyncio.get_running_loop().call_soon(self._pump)
            return
        patience = asyncio.get_running_loop().call_later(GREETING_TIMEOUT_S, self._silent, spare.pid)
        self._handed[spare.pid] = Handed(spare, ordered, patience)
        if shares_process(ordered.order):
            self._shared.begins(ordered.order)
        self._children.add(spare.pid, ordered.order)
        spare.watch(lambda: self._answered(spare.pid))

    def _answered(self, pid: int) -> None:
        """The child has greeted, or is gone."""
        handed = self._handed.get(pid)
        said = handed.spare.heard() if handed is not None else None
        if handed is None or said is None:
            return
        order = handed.ordered.order
        if said == GREETED and shares_process(order):
            self._shared.begun(handed.spare, order)
            asyncio.get_running_loop().call_soon(self._pump)
        else:
            handed.spare.let_go()
        if said != GREETED:
            return  # its end is told in a moment, see ``ended``
        del self._handed[pid]
        handed.patience.cancel()
        handed.ordered.peer.connection.close()
        self._begun(pid, order)

    def _begun(self, pid: int, order: EngineOrder) -> None:
        self.started += 1
        self._pause_s = QUIET_S
        self._put_refill_off()  # from now, when its start has begun
        log.info("%s: %d becomes %s", order.replica_id, pid, order.model_id)

    def _silent(self, pid: int) -> None:
        if pid in self._handed:
            log.error("the child %d does not take up its order; it is killed", pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                self.ended(pid, 0)  # whoever should have told of it is gone, too

    def ended(self, pid: int, wait_status: int) -> None:
        """A child is gone, with or without an order."""
        self._answered(pid)
        self._shared.ended(pid)
        handed = self._handed.pop(pid, None)
        if handed is None:
            self._children.ended(pid, wait_status)
        else:
            self._children.remove(pid)
            handed.patience.cancel()
            handed.spare.let_go()
            self._lost(handed.ordered, f"the child {pid} died before it took up its order")
        for ordered in self._after.pop(pid, ()):
            self._waiting.append(ordered)
        self._pump()

    def vanished(self) -> None:
        """A zygote is gone: some children may have ended without anybody to tell of it."""
        for pid in self._children:
            if self._children.is_gone(pid):
                log.warning("the child %d has ended, and nobody knows how", pid)
                self._children.remove(pid)
                self.ended(pid, 0)

    def _lost(self, ordered: Ordered, why: str) -> None:
        if shares_process(ordered.order):
            self._shared.not_begun(ordered.order)
        ordered.lost += 1
        if ordered.lost >= MOST_LOST:
            self._decline(ordered, f"{why}, as did {MOST_LOST - 1} before it")
            return
        log.warning("%s: %s; another one gets it", ordered.order.replica_id, why)
        self._waiting.appendleft(ordered)

    # Children

    def use(self, forker: Forker | None) -> None:
        """Who forks from now on."""
        self._forker = forker
        if forker is not None:
            self._open = True
            self._pump()
            self._fill(forker)

    def forked(self, spare: Spare) -> None:
        self.spares.add(spare)
        self._pump()
        self.spares.dismiss_surplus(self._wanted)

    def not_forked(self, why: str) -> None:
        """The order that has waited longest pays for it; a spare is tried again later."""
        if self._waiting:
            self._decline(self._waiting.popleft(), why)
        else:
            log.warning("no spare: %s", why)
            self._spare_died()

    def _spare_died(self) -> None:
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s)
        self._put_refill_off()

    def _put_refill_off(self) -> None:
        """Spares are replaced once it is quiet again, and one by one."""
        loop = asyncio.get_running_loop()
        if self._unrest_since_s is None:
            self._unrest_since_s = loop.time()
        if self._refill is not None:
            self._refill.cancel()
        due_s = loop.time() + self._pause_s
        if self._pause_s == QUIET_S:
            due_s = min(due_s, self._unrest_since_s + LONGEST_UNREST_S)
        self._refill = loop.call_at(due_s, self._refill_one)

    def _refill_one(self) -> None:
        self._refill = None
        self._unrest_since_s = None
        forker = self._forker
        if forker is not None and self._missing(forker) > 0:
            forker.fork()
            if self._missing(forker) > 0:
                self._put_refill_off()

    def _fill(self, forker: Forker) -> None:
        """All at once: a new zygote's."""
        for _ in range(self._missing(forker)):
            forker.fork()

    def _missing(self, forker: Forker) -> int:
        return self._wanted + len(self._waiting) - self.spares.of(forker.number) - forker.outstanding
