"""Which zygote forks now: starts one, replaces one that dies or ages, and steps down when one cannot be warmed.

Rules:
1. There is always one that forks (``current``) or one being warmed; after failures it takes a pause that grows.
2. A runtime in whose warm-up a zygote breaks, crashes or hangs is run by its fallback from then on, or not at all.
   Not so when it was killed (out of memory, most likely): the same is tried again.
3. An aged one goes on forking until its successor is warm. A successor that cannot be warmed changes nothing but the
   ``problem``; it is tried again later. It begins with what was first wanted, so what has been mended is used again.
4. Before the first has ever been warm, MOST_FAILURES in a row are the end of the launcher.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from models.runtimes.cores import board
from models.runtimes.launcher.ageing import Bounds, why_old
from models.runtimes.launcher.generation import Generation
from models.runtimes.launcher.recipe import Recipe
from models.runtimes.launcher.zygote_wire import Broken, Ended, Forked, FromZygote, NotForked, Warm, Warming
from models.runtimes.proc import available_bytes, rss_bytes

log = logging.getLogger("roundhouse.launcher")

MOST_FAILURES = 5
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 30.0
SUCCESSOR_PAUSE_S = 600.0
LOOK_EVERY_S = 5.0
FORK_TIMEOUT_S = 20.0
KILLED = (signal.SIGKILL, signal.SIGTERM)


class Nursery(Protocol):
    """Who is told of what zygotes do."""

    def warmed(self, generation: Generation) -> None:
        """It is ``current`` from now on."""

    def forked(self, generation: Generation, pid: int, channel: socket.socket) -> None: ...

    def not_forked(self, why: str) -> None: ...

    def child_ended(self, pid: int, wait_status: int) -> None: ...

    def lost(self, generation: Generation) -> None:
        """A zygote's process is gone; whoever was its child is now the launcher's."""

    def cannot_warm(self, why: str) -> None:
        """For the second time or more in a row, and nobody forks: who waits would wait for long."""

    def give_up(self, why: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """``warm_timeout_s``: for importing, and for warming, any one runtime."""

    warm_timeout_s: float = 150.0
    bounds: Bounds = field(default_factory=Bounds)


class Generations:
    """All zygotes of this launcher, one after the other."""

    def __init__(self, wanted: Recipe, scratch: Path, limits: Limits, nursery: Nursery) -> None:
        self.current: Generation | None = None
        self.problem = ""
        self.states: dict[str, str] = {}
        self.known = False  # whether ``states`` are final: one has been warm
        self._wanted = wanted
        self._recipe = wanted  # what is left of it
        self._scratch = scratch
        self._board = board.make()  # one for all: engines outlive the zygote that has forked them
        self._limits = limits
        self._nursery = nursery
        self._warming: Generation | None = None
        self._leaving: dict[int, Generation] = {}
        self._verdicts: dict[int, Broken] = {}  # by pid: why one is about to end
        self._number = 0
        self._failures = 0
        self._not_before_s = 0.0  # no successor sooner

    def begin(self) -> None:
        """Call once, with the loop running. Raises OSError when no process can be started."""
        self._start(self._recipe)
        self._look_often()

    def recycle(self, why: str) -> None:
        """Warm a successor, unless one is being warmed already."""
        if self._warming is None and self.current is not None:
            log.info("renewing the warm process %d: %s", self.current.pid, why)
            self._try_to_start(self._wanted)

    def ended(self, pid: int, wait_status: int) -> bool:
        """A child of the launcher was waited for; False when it is no zygote."""
        found = (self.current, self._warming, self._leaving.pop(pid, None))
        generation = next((each for each in found if each is not None and each.pid == pid), None)
        if generation is None:
            return False
        code = os.waitstatus_to_exitcode(wait_status)
        generation.ended(code)
        if generation is self._warming:
            self._warming = None
            self._failed(generation, code)
        elif generation is self.current:
            self.current = None
            log.error("the warm process %d %s; its engines go on", pid, _how(code))
            if self._warming is None:
                self._again()
        self._nursery.lost(generation)
        return True

    # Starting

    def _start(self, recipe: Recipe) -> None:
        self._number += 1
        self._warming = Generation(self._number, recipe, self._scratch, self._hear, self._board)
        self._warming.start()
        self._wait_for(self._warming)

    def _try_to_start(self, recipe: Recipe) -> None:
        try:
            self._start(recipe)
        except OSError as problem:
            self._warming = None
            self.problem = f"a warm process cannot be started: {problem.strerror}"
            log.error("%s", self.problem)
            if self.current is None:
                self._again()

    def _again(self) -> None:
        """The same, or what is left of it, after a pause."""
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self._failures - 1)) if self._failures else 0.0
        asyncio.get_running_loop().call_later(pause_s, self._start_again)

    def _start_again(self) -> None:
        if self._warming is None and self.current is None:
            self._try_to_start(self._recipe)

    def _wait_for(self, generation: Generation) -> None:
        loop = asyncio.get_running_loop()
        said = generation.doing

        def expired() -> None:
            if generation is self._warming and generation.doing is said and generation.pid not in self._verdicts:
                self._hangs(generation)

        loop.call_later(self._limits.warm_timeout_s, expired)

    def _hangs(self, generation: Generation) -> None:
        doing = generation.doing
        name, step = (doing.name, doing.step) if doing else ("", "started")
        why = f"its warm-up hangs (not {step} within {self._limits.warm_timeout_s:g} s)"
        log.error("%s: %s; where, of all threads:", name or "the warm process", why)
        self._verdicts[generation.pid] = Broken(name, why)
        generation.kill()

    # What they say

    def _hear(self, generation: Generation, message: FromZygote, carried: socket.socket | None) -> None:
        match message:
            case Warming():
                self._wait_for(generation)
                if not self.known:
                    self.states = message.states
            case Warm():
                self._is_warm(generation, message)
            case Broken():
                self._verdicts[generation.pid] = message
            case Forked() if carried is not None:
                self._nursery.forked(generation, message.pid, carried)
                self._look()
            case NotForked():
                self._nursery.not_forked(message.why)
            case Ended():
                self._nursery.child_ended(message.pid, message.wait_status)

    def _is_warm(self, generation: Generation, message: Warm) -> None:
        if generation is not self._warming:
            return
        before, self.current, self._warming = self.current, generation, None
        self._recipe = generation.recipe
        self.states, self.known = message.states, True
        self.problem, self._failures = "", 0
        log.info("ready after %.1f s (%d MiB)", message.warm_s, rss_bytes(generation.pid) >> 20)
        self._nursery.warmed(generation)
        if before is not None:
            self._leaving[before.pid] = before
            before.dismiss()

    # Failing

    def _failed(self, generation: Generation, code: int) -> None:
        """One that was never warm is gone."""
        verdict = self._verdicts.pop(generation.pid, None)
        blamed = verdict is not None or -code not in KILLED
        if verdict is None:
            name = generation.doing.name if generation.doing else ""
            verdict = Broken(name, f"its warm-up's process {_how(code)}")
        about = f"{verdict.name}: {verdict.why}" if verdict.name else f"the warm process: {verdict.why}"
        if self.current is not None:
            self.problem = f"the warm process cannot be renewed: {about}"
            self._not_before_s = asyncio.get_running_loop().time() + SUCCESSOR_PAUSE_S
            log.error("%s; the old one goes on", self.problem)
            return
        self._failures += 1
        self.problem = f"no warm process could be made: {about}"
        log.error("%s", self.problem)
        if not self.known and self._failures >= MOST_FAILURES:
            self._nursery.give_up(self.problem)
            return
        if self.known and self._failures > 1:
            self._nursery.cannot_warm(self.problem)
        if verdict.name and blamed:
            self._recipe = self._recipe.without(verdict.name, verdict.why)
            self._try_to_start(self._recipe)
        else:
            self._again()

    # Ageing

    def _look_often(self) -> None:
        asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_often)
        self._look()

    def _look(self) -> None:
        current = self.current
        if current is None:
            return
        if current.stuck_s() > FORK_TIMEOUT_S:
            log.error("the warm process %d does not fork; where it hangs, of all threads:", current.pid)
            current.kill()
            return
        age, now_s = current.age(), asyncio.get_running_loop().time()
        why = why_old(age, self._limits.bounds)
        if why is None or now_s < self._not_before_s or self._warming is not None:
            return
        if available_bytes() < age.rss_bytes:  # both live for a while
            self._not_before_s = now_s + SUCCESSOR_PAUSE_S
            self.problem = f"the warm process is to be renewed ({why}), but there is no memory for a second one"
            log.warning("%s; the old one goes on", self.problem)
            return
        self.recycle(why)


def _how(code: int) -> str:
    if code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code) or 'unknown'})"
    return f"ended with code {code}"
