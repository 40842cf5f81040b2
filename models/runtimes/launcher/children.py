"""Which engines the launcher has started and which of them run: the one place that knows a child's order."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from models.runtimes.host.exits import ExitRecords
from models.runtimes.proc import is_ending
from models.runtimes.protocol import EngineOrder
from models.runtimes.torch.shared_process import process_log, shares_process

log = logging.getLogger("roundhouse.launcher")


class Children:
    """Engines by pid, from the moment a child is given its order until its end is on record."""

    def __init__(self) -> None:
        self._orders: dict[int, list[EngineOrder]] = {}  # several only in a shared process
        self._pids: dict[str, int] = {}  # by control path
        self._records = ExitRecords()

    def __len__(self) -> int:
        return sum(map(len, self._orders.values()))

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._orders))

    def add(self, pid: int, order: EngineOrder) -> None:
        self._orders.setdefault(pid, []).append(order)
        self._pids[order.control_path] = pid

    def remove(self, pid: int) -> list[EngineOrder]:
        """It is not, or no longer, an engine; the orders that it had."""
        orders = self._orders.pop(pid, [])
        for order in orders:
            if self._pids.get(order.control_path) == pid:
                del self._pids[order.control_path]
        return orders

    def forget(self, control_path: str) -> None:
        """One replica of a shared process is gone; the process goes on."""
        pid = self._pids.pop(control_path, None)
        if pid is not None:
            self._orders[pid] = [order for order in self._orders[pid] if order.control_path != control_path]

    def of(self, control_path: str) -> int | None:
        """The child that has the replica with this control socket."""
        return self._pids.get(control_path)

    def ended(self, pid: int, wait_status: int) -> None:
        """Put an engine's end on record; nothing happens for other children."""
        orders = self.remove(pid)
        for order in orders:
            written_to = process_log(order, pid) if shares_process(order) else None
            report = self._records.take(pid, order, wait_status, written_to=written_to, shared_with=len(orders) - 1)
            log.info("%s: %s", order.replica_id, report.reason())

    def is_ending(self, pid: int) -> bool:
        return is_ending(pid)

    def is_gone(self, pid: int) -> bool:
        """Whether nothing is left of it, not even an exit status that somebody could wait for."""
        return not Path(f"/proc/{pid}").exists()
