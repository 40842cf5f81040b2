"""What a node does for its weights while nobody waits: learn new folders, keep the quota, scrub."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from models.weights.errors import WeightsError
from models.weights.hashing import Pace, Stopped
from models.weights.locks import tried
from models.weights.low_priority import be_humble
from models.weights.store import WeightStore

LEARN_BYTES_PER_S = 200 * 2**20  # an engine that has just started reads the same disk
LOOK_S = 30.0  # between looks at the quota and at what is due to be read again
log = logging.getLogger("roundhouse.weights")


class Caretaker:
    """One thread of low priority. Of several processes on one store, one at a time does the looking around."""

    def __init__(self, store: WeightStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._folders: queue.Queue[Path | None] = queue.Queue()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> Caretaker:
        self._thread = threading.Thread(target=self._run, name="weights-caretaker", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        self._closing.set()
        self._folders.put(None)
        if self._thread is not None:
            self._thread.join()

    def settle(self) -> None:
        """Wait until every folder that it was told of has been read."""
        self._folders.join()

    def learn(self, folder: Path) -> None:
        """Read this folder when there is time, so that its content has a name."""
        self._folders.put(folder)

    def learn_now(self, folder: Path) -> None:
        """What is damaged is written down, and refused at the next start. Raises Stopped."""
        try:
            if self._store.book.identity(folder)[1] is None:
                self._store.learn(folder, pace=Pace(LEARN_BYTES_PER_S, stop=self._closing.is_set))
        except (WeightsError, OSError) as problem:
            log.warning("weights in %s: %s", folder, problem)

    def look_around(self) -> None:
        """Keep the quota, then read one file again if one is due. Raises Stopped."""
        with tried(self._store.paths.lock("caretaker")) as mine:
            if not mine:
                return
            gone = self._store.prune()
            for item in gone.victims:
                log.info("evicted %s %s (%d bytes)", item.kind, item.path.name, item.bytes)
            self._scrub()

    def _scrub(self) -> None:
        rate = self._store.settings.scrub_bytes_per_s
        target = self._store.scrub.due() if rate > 0 else None
        if target is None:
            return
        found = self._store.scrub.check(target, Pace(rate, stop=self._closing.is_set))
        if found is not None and found.problem is not None:
            log.error("%s: %s", target.folder, found.problem)

    def _run(self) -> None:
        be_humble()
        next_s = self._clock() + LOOK_S
        while not self._closing.is_set():
            try:
                self._learn_next(max(0.01, next_s - self._clock()))
                if self._clock() >= next_s and not self._closing.is_set():
                    next_s = self._clock() + LOOK_S
                    self.look_around()
            except Stopped:
                return
            except Exception:
                log.exception("looking after the weights failed; it goes on")

    def _learn_next(self, timeout_s: float) -> None:
        try:
            folder = self._folders.get(timeout=timeout_s)
        except queue.Empty:
            return
        try:
            if folder is not None:
                self.learn_now(folder)
        finally:
            self._folders.task_done()
