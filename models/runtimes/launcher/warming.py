"""What a zygote does once, before it forks anything: import and warm every runtime, in a thread that then ends.

A thread of its own, for two reasons. The zygote notices when the launcher is gone. And OpenMP keeps a pool of workers
per thread that computes: a pool of the main thread would be missing in every forked child and hang it; this one ends
here.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from models.runtimes.launcher.recipe import Recipe
from models.runtimes.launcher.zygote_wire import Broken, FromZygote, Warm, Warming
from models.runtimes.proc import rss_bytes, trim_heap
from models.runtimes.protocol import EngineError, Runtime
from models.runtimes.registry import FALLBACKS, find_runtime

log = logging.getLogger("roundhouse.launcher")

UNAVAILABLE = "unavailable: "
FAST = "fast"
PLAIN = "plain: "
LONGEST_WHY = 400


class Warmer:
    """Warms what the recipe names in the background. ``tell`` is called from its thread, last with Warm or Broken."""

    def __init__(self, recipe: Recipe, scratch: Path, tell: Callable[[FromZygote], None]) -> None:
        self._recipe = recipe
        self._scratch = scratch
        self._tell = tell
        self._states: dict[str, str] = {}
        self._paths: dict[str, str] = {}
        self._runtimes: dict[str, tuple[str, Runtime]] = {}  # by the runtime's own name, with that in the recipe
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._warm_all, name="warmer", daemon=True)
        for name in recipe.names:
            self._find(name)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Call once it has told the last: forking is safe when this returns, for the thread is gone."""
        self._thread.join()

    @property
    def runtimes(self) -> dict[str, Runtime]:
        """Those that are warm, or not yet known to be unavailable."""
        return {name: runtime for name, (_, runtime) in self._runtimes.items()}

    @property
    def states(self) -> dict[str, str]:
        """Runtime -> version, or "unavailable: why"."""
        return dict(self._states)

    def _find(self, name: str) -> None:
        """Under its own name if it has one, else under that in the recipe."""
        plain, given_up = self._recipe.plain.get(name), self._recipe.given_up.get(name)
        if given_up:
            self._give_up(name.rpartition(":")[2], given_up)
            return
        self._tell(Warming(name, "looked up", dict(self._states)))
        try:
            runtime = FALLBACKS[name](plain) if plain else find_runtime(name)
            version = runtime.version()
        except (ImportError, ValueError) as problem:
            self._give_up(name, str(problem))
            return
        self._runtimes[runtime.name] = name, runtime
        self._states[runtime.name] = version
        if name in FALLBACKS:
            self._paths[runtime.name] = f"{PLAIN}{plain}" if plain else FAST

    def _warm_all(self) -> None:
        for own_name, (name, runtime) in tuple(self._runtimes.items()):
            try:
                self._timed(name, "imported", runtime.preimport)
                self._timed(name, "warmed", partial(runtime.warm, str(self._scratch)))
            except Exception as problem:
                if not isinstance(problem, EngineError):
                    log.exception("the runtime %s cannot be warmed", own_name)
                if self._recipe.falls_back(name):
                    self._tell(Broken(name, _why(problem)))
                    return
                self._give_up(own_name, _plain_words(problem))
        gc.collect()
        trim_heap()
        # Everything up to here is shared by all children for good: a collection in a child must not walk over it.
        gc.freeze()
        self._tell(Warm(self._states, self._paths, time.monotonic() - self._began_s))

    def _timed(self, name: str, what: str, action: Callable[[], None]) -> None:
        self._tell(Warming(name, what, dict(self._states)))
        began_s = time.monotonic()
        action()
        log.info("%s %s in %.1f s (%d MiB)", name, what, time.monotonic() - began_s, rss_bytes() >> 20)

    def _give_up(self, name: str, why: str) -> None:
        self._runtimes.pop(name, None)
        self._paths.pop(name, None)
        self._states[name] = f"{UNAVAILABLE}{why}"
        log.warning("%s is unavailable: %s", name, why)


def _plain_words(problem: Exception) -> str:
    """Of a runtime that is gone without a substitute: what it says itself if it is fit for callers."""
    if isinstance(problem, ImportError | EngineError):
        return str(problem)
    return "it broke while it was warmed: see the launcher's log"


def _why(problem: Exception) -> str:
    """Why the fallback is used, for operators."""
    said = " ".join(str(problem).split())[:LONGEST_WHY]
    if isinstance(problem, EngineError):
        return said
    return f"its warm-up failed ({type(problem).__name__}: {said})"
