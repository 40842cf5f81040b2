"""The launcher's view of processes that replicas of one device share: which there are, and what was handed to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from models.runtimes.launcher.children import Children
from models.runtimes.launcher.handover import hand_over
from models.runtimes.launcher.peers import Ordered
from models.runtimes.launcher.spares import Spare
from models.runtimes.protocol import EngineOrder
from models.runtimes.torch.shared_process import LONGEST_NOTE_BYTES, SharedDevice, read_note, shared_device

GREETING_TIMEOUT_S = 15.0

log = logging.getLogger("roundhouse.launcher")

# handed: the device's process has it; later: it is just coming to life; child: it takes a child to become it.
Place = Literal["handed", "later", "child"]


@dataclass(eq=False)
class _Shared:
    device: SharedDevice
    child: Spare
    waiting: dict[str, tuple[Ordered, asyncio.TimerHandle]] = field(default_factory=dict)  # by control path


class SharedTable:
    """``started`` is called when a replica has greeted, ``lost`` with an order whose process died before."""

    def __init__(
        self,
        children: Children,
        started: Callable[[int, EngineOrder], None],
        lost: Callable[[Ordered, str], None],
        patience_s: float = GREETING_TIMEOUT_S,
    ) -> None:
        self._patience_s = patience_s
        self._children = children
        self._started = started
        self._lost = lost
        self._living: dict[SharedDevice, _Shared] = {}
        self._coming: set[SharedDevice] = set()

    def place(self, ordered: Ordered) -> Place:
        """Hand the order to its device's process, if there is one."""
        device = shared_device(ordered.order.device)
        if device in self._coming:
            return "later"
        shared = self._living.get(device)
        if shared is None:
            return "child"
        try:
            hand_over(shared.child.channel, ordered.order, ordered.peer.connection, ordered.received_s)
        except OSError:
            self._forget(shared)  # it is ending
            return "child"
        path = ordered.order.control_path
        patience = asyncio.get_running_loop().call_later(self._patience_s, self._silent, shared, path)
        shared.waiting[path] = (ordered, patience)
        self._children.add(shared.child.pid, ordered.order)
        return "handed"

    def begins(self, order: EngineOrder) -> None:
        """A child was given the order and will become the device's process."""
        self._coming.add(shared_device(order.device))

    def begun(self, child: Spare, order: EngineOrder) -> None:
        """It has greeted; its channel is kept for further orders."""
        device = shared_device(order.device)
        self._coming.discard(device)
        shared = self._living[device] = _Shared(device, child)
        child.watch(lambda: self._heard(shared))
        log.info("%d is the shared process of %s", child.pid, device)

    def not_begun(self, order: EngineOrder) -> None:
        self._coming.discard(shared_device(order.device))

    def ended(self, pid: int) -> None:
        """A process is gone: what it had not greeted is lost, not run."""
        for shared in tuple(self._living.values()):
            if shared.child.pid == pid:
                self._heard(shared)
                self._forget(shared)
                for path, (ordered, patience) in shared.waiting.items():
                    patience.cancel()
                    self._children.forget(path)
                    self._lost(ordered, f"the shared process {pid} ended before it took up its order")
                shared.waiting.clear()

    def _heard(self, shared: _Shared) -> None:
        """All that it has said."""
        while shared.child.channel.fileno() >= 0:
            try:
                message = shared.child.channel.recv(LONGEST_NOTE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._forget(shared)
                return
            found = read_note(message)
            if found is None:
                log.warning("the shared process %d says something else than it may", shared.child.pid)
            elif found[0] == "greeted":
                self._greeted(shared, found[1])
            else:
                self._children.forget(found[1])

    def _greeted(self, shared: _Shared, path: str) -> None:
        waiting = shared.waiting.pop(path, None)
        if waiting is not None:
            ordered, patience = waiting
            patience.cancel()
            ordered.peer.connection.close()
            self._started(shared.child.pid, ordered.order)

    def _silent(self, shared: _Shared, path: str) -> None:
        """It hangs, and its owners will end it; this order does not wait for that."""
        waiting = shared.waiting.pop(path, None)
        if waiting is not None:
            self._children.forget(path)
            waiting[0].decline(f"the shared process {shared.child.pid} of its device takes up no order")

    def _forget(self, shared: _Shared) -> None:
        """No further orders for it."""
        if self._living.get(shared.device) is shared:
            del self._living[shared.device]
        shared.child.let_go()
