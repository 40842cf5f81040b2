"""What the launcher does once, before it forks anything: import and warm every runtime, in a thread that then ends.

A thread of its own, for two reasons. The launcher answers while this goes on. And OpenMP keeps a pool of workers per
thread that computes: a pool of the main thread would be missing in every forked child and hang it; this one ends here.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from models.runtimes.proc import rss_bytes, trim_heap
from models.runtimes.protocol import EngineError, Runtime
from models.runtimes.registry import find_runtime

log = logging.getLogger("roundhouse.launcher")

UNAVAILABLE = "unavailable: "


class Warmer:
    """Warms the named runtimes in the background and then calls ``on_done`` (from its thread)."""

    def __init__(self, names: tuple[str, ...], scratch: Path, on_done: Callable[[], None]) -> None:
        self._scratch = scratch
        self._on_done = on_done
        self._states: dict[str, str] = {}
        self._runtimes: dict[str, Runtime] = {}
        self._began_s = time.monotonic()
        self._took_s: float | None = None
        self._thread = threading.Thread(target=self._warm_all, name="warmer", daemon=True)
        for name in names:
            self._find(name)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Call once ``on_done`` was called: forking is safe when this returns, for the thread is gone."""
        self._thread.join()

    @property
    def states(self) -> Mapping[str, str]:
        """Runtime -> version, or "unavailable: why"."""
        return dict(self._states)

    @property
    def warm_s(self) -> float:
        """How long it took, or has taken so far."""
        return self._took_s if self._took_s is not None else time.monotonic() - self._began_s

    def runtime(self, name: str) -> Runtime | str:
        """A warmed runtime, or one sentence on why there is none."""
        if name not in self._states:
            return f"this node's launcher has no runtime called {name!r}, only {', '.join(self._states)}"
        if name not in self._runtimes:
            return f"the runtime {name!r} is {self._states[name]}"
        return self._runtimes[name]

    def _find(self, name: str) -> None:
        try:
            runtime = find_runtime(name)
            version = runtime.version()
        except (ImportError, ValueError) as problem:
            self._give_up(name, str(problem))
        else:
            self._runtimes[runtime.name] = runtime
            self._states[runtime.name] = version

    def _warm_all(self) -> None:
        for name, runtime in tuple(self._runtimes.items()):
            try:
                self._timed(name, "imported", runtime.preimport)
                self._timed(name, "warmed", partial(runtime.warm, str(self._scratch)))
            except (ImportError, EngineError) as problem:
                self._give_up(name, str(problem))
            except Exception:
                # One broken runtime must not take the others along.
                log.exception("the runtime %s cannot be warmed", name)
                self._give_up(name, "it broke while it was warmed: see the launcher's log")
        gc.collect()
        trim_heap()
        # Everything up to here is shared by all children for good: a collection in a child must not walk over it.
        gc.freeze()
        self._took_s = time.monotonic() - self._began_s
        self._on_done()

    def _timed(self, name: str, what: str, action: Callable[[], None]) -> None:
        began_s = time.monotonic()
        action()
        log.info("%s %s in %.1f s (%d MiB)", name, what, time.monotonic() - began_s, rss_bytes() >> 20)

    def _give_up(self, name: str, why: str) -> None:
        self._runtimes.pop(name, None)
        self._states[name] = f"{UNAVAILABLE}{why}"
        log.warning("%s is unavailable: %s", name, why)
