"""One cell of the matrix: a moment is brought about, the fault strikes, and everything is watched until it is over."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from loadtests.chaos.calls import AFTER_FIRST_BYTE, BEFORE_FIRST_BYTE, Call, How
from loadtests.chaos.census import Census
from loadtests.chaos.faults import Fault, let_go_on, strike
from loadtests.chaos.moments import TOKENS, Moment
from loadtests.chaos.recovery import Recovered, Struck, await_recovery, kept
from loadtests.chaos.scene import COLD, STEADY
from loadtests.chaos.stage import Stage
from loadtests.chaos.watch import Seen, Watch
from loadtests.coldstart.admin import Admin
from loadtests.wire import CallFailed, get_json

RECOVER_WITHIN_S = 90.0
AFTERWARDS_S = 2.0  # the crowd goes on at least so long after the strike
JUST_NOW_S = 2.0
FRESH_EVERY_S, ASK_EVERY_S = 0.1, 0.25
DIGITS = 3


@dataclass(slots=True)
class Result:
    """Of one cell. Times in seconds; ``call_s``: from the strike to the first answer of a call made after it.

    ``stuck``: callers whose calls never ended. ``lost``: replicas that should have lived on. ``moved``: decisions
    that took a replica of STEADY away; ``decided``: all of them since the strike. ``hit``: whether the moment lasted
    until the strike. ``again_s``: what one more start took when all was over, whoever had made the one before.
    """

    fault: str
    moment: str
    problem: str = ""  # why it could not be played to its end
    calls: list[Call] = field(default_factory=list)
    struck_s: float = 0.0
    stuck: int = 0
    call_s: float | None = None
    again_s: float | None = None
    recovered: Recovered = field(default_factory=Recovered)
    seen: Seen = field(default_factory=Seen)
    lost: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    decided: list[str] = field(default_factory=list)
    hit: bool = True
    took_s: float = 0.0

    @property
    def ways(self) -> Counter[str]:
        """How the calls ended."""
        return Counter(call.how for call in self.calls)

    def count(self, *ways: How) -> int:
        return sum(self.ways[how] for how in ways)

    @property
    def slowest_s(self) -> float:
        """The longest that an answered call of STEADY waited for its first byte."""
        waits = (c.first_byte_s - c.began_s for c in self.calls if c.model == STEADY and c.first_byte_s is not None)
        return max(waits, default=0.0)

    def document(self) -> dict[str, Any]:
        failures = Counter(f"{call.model}: {call.how}: {call.text}" for call in self.calls if call.how is not How.OK)
        return {
            "fault": self.fault,
            "when": self.moment,
            "problem": self.problem,
            "calls": len(self.calls),
            "failed_before_first_byte": self.count(*BEFORE_FIRST_BYTE),
            "failed_after_first_byte": self.count(*AFTER_FIRST_BYTE),
            "refused_with_retry_after": self.count(How.REFUSED),
            "stuck": self.stuck,
            "failures": dict(failures.most_common(12)),
            "first_fresh_answer_s": _rounded(self.call_s),
            "one_more_start_s": _rounded(self.again_s),
            "slowest_first_byte_s": _rounded(self.slowest_s),
            "recovered_s": {name: _rounded(seconds) for name, seconds in self.recovered.after_s.items()},
            "missing": self.recovered.missing,
            "samples": self.seen.document(),
            "lost_replicas": self.lost,
            "moved": self.moved,
            "decided": self.decided,
            "hit": self.hit,
            "took_s": _rounded(self.took_s),
        }


@dataclass(frozen=True, slots=True)
class Play:
    """How cells are played on a service. ``before``: how many processes of each kind it had when it was new."""

    admin: Admin
    census: Census
    before: Mapping[str, int]
    silent_s: float
    recover_within_s: float = RECOVER_WITHIN_S

    def cell(self, fault: Fault, moment: Moment) -> Result:
        """Plays it; what goes wrong is in the result."""
        began_s = time.monotonic()
        result, stage = Result(fault.name, moment.name), Stage(self.admin, self.census)
        try:
            moment.prepare(stage)
            with Watch(self.admin.target, self.census) as watch:
                result.seen = watch.seen
                self._play(fault, moment, stage, result)
        except CallFailed as problem:
            result.problem = str(problem)
        finally:
            result.stuck = sum(callers.join() for callers in stage.everybody)
            result.calls = stage.calls()
        result.took_s = time.monotonic() - began_s
        return result

    def _play(self, fault: Fault, moment: Moment, stage: Stage, result: Result) -> None:
        lived = {r["replica_id"]: r["pid"] for r in self.admin.replicas() if r["pid"] is not None}
        processes = self.census.look()
        moment.begin(stage)
        victims = fault.victims(stage, processes)
        strike(fault, victims)
        at_s = over_s = time.monotonic()
        at_unix_s = time.time()
        result.struck_s = at_s
        try:
            stage.fresh.crowd(STEADY, 1, TOKENS, FRESH_EVERY_S)
            stage.asking.until_answered(stage.wanted, TOKENS, ASK_EVERY_S)
            if fault.goes_on:
                time.sleep(self.silent_s)
                let_go_on(victims)
                over_s = time.monotonic()
            struck = Struck(at_s, over_s, at_unix_s + over_s - at_s, tuple(victims), self.before)
            result.recovered = await_recovery(stage, struck, self.recover_within_s)
            time.sleep(max(0.0, at_s + AFTERWARDS_S - time.monotonic()))
        finally:
            let_go_on(victims)
            for callers in (stage.steady, stage.fresh, stage.asking):
                callers.enough()
        answers = stage.fresh.answered(at_s)
        result.call_s = min(call.ended_s for call in answers) - at_s if answers else None
        spared = [engine.replica for engine in (*victims, stage.engine) if engine is not None]
        result.lost = kept(lived, spared, self.census.engines())
        self._decisions(stage, result, at_unix_s)
        if result.recovered.whole:
            result.again_s = self._start_again(stage)

    def _start_again(self, stage: Stage) -> float | None:
        """Seconds to the answer of a model that was stopped just before; None when none came. Raises CallFailed."""
        if self.admin.replicas(COLD):
            self.admin.stop(COLD)
        stage.later.once(COLD, 1, TOKENS)
        stage.later.join(self.recover_within_s)
        answers = stage.later.answered()
        return answers[0].took_s if answers else None

    def _decisions(self, stage: Stage, result: Result, struck_unix_s: float) -> None:
        """What the controller has decided and heard since, told in the result. Raises CallFailed."""
        found = get_json(self.admin.target, "/admin/v1/decisions?limit=500", admin=True)["data"]
        for decision in reversed(found):
            since_s = decision["at_unix_s"] - struck_unix_s
            action, what = decision["action"], decision["replica_id"] or decision["model_id"] or ""
            if action == "ready" and -JUST_NOW_S < since_s < 0 and _awaited(decision, stage, result.moment):
                result.hit = False  # what was waited for was there before it was hit: the moment had passed
            if since_s >= 0:
                result.decided.append(f"{since_s:.2f} s: {action} {what}: {decision['reason']}")
                if decision["model_id"] == STEADY and action in ("sleep", "stop"):
                    result.moved.append(decision["reason"])


def _awaited(decision: Mapping[str, Any], stage: Stage, moment: str) -> bool:
    """Whether this is what the callers of the moment wait for."""
    if moment == "start":
        return stage.engine is not None and decision["replica_id"] == stage.engine.replica
    return moment == "evict" and decision["model_id"] == stage.wanted


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, DIGITS)
