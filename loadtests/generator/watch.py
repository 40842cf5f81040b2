"""What the service says of itself while it is loaded: replicas and tiers of each model, its memory, over time."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from loadtests.target import Target
from loadtests.wire import CallFailed, get_json

STATES = ("starting", "ready", "draining", "asleep")
SHOWN = (*STATES, "tier", "held", "in_flight")
MEMORY_EVERY_S = 1.0


@dataclass(slots=True)
class ServiceWatch:
    """``look`` asks the admin API. A target without one is asked once. ``models``: only these (empty: all)."""

    target: Target
    models: frozenset[str] = frozenset()
    at_s: list[float] = field(default_factory=list)
    seen: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    memory_at_s: list[float] = field(default_factory=list)
    resident_bytes: list[int] = field(default_factory=list)
    problem: str = ""
    missed: int = 0

    @property
    def useless(self) -> bool:
        return bool(self.problem) and not self.at_s

    def look(self, at_s: float) -> None:
        """``at_s``: when it was asked. What cannot be asked now leaves a gap in the times."""
        if self.useless:
            return
        try:
            models = get_json(self.target, "/admin/v1/models", admin=True, timeout_s=5.0)["data"]
            replicas = get_json(self.target, "/admin/v1/replicas", admin=True, timeout_s=5.0)["data"]
            self._take(at_s, models, replicas)
            if not self.memory_at_s or at_s - self.memory_at_s[-1] >= MEMORY_EVERY_S:
                self._weigh(at_s, get_json(self.target, "/admin/v1/status", admin=True, timeout_s=5.0))
        except (CallFailed, KeyError, TypeError) as problem:
            self.missed += 1
            self.problem = self.problem or f"no admin API: {problem}"

    def _take(self, at_s: float, models: list[dict[str, Any]], replicas: list[dict[str, Any]]) -> None:
        states: dict[str, Counter[str]] = defaultdict(Counter)
        for replica in replicas:
            states[replica["model_id"]][replica["state"]] += 1
        before = len(self.at_s)
        now = {}
        for model in models:
            name = model["model_id"]
            if self.models and name not in self.models:
                continue
            counts = {state: states[name][state] for state in STATES}
            now[name] = {**counts, "tier": model["tier"], "held": model["held"], "in_flight": model["in_flight"]}
        self.at_s.append(round(at_s, 3))
        for name in self.seen.keys() | now.keys():
            columns = self.seen.setdefault(name, {column: [None] * before for column in SHOWN})
            for column in SHOWN:
                columns[column].append(now[name][column] if name in now else None)

    def _weigh(self, at_s: float, status: dict[str, Any]) -> None:
        """What the processes that answer requests hold in memory; not every installation says."""
        told = [worker.get("resident_bytes") for worker in status.get("workers") or (status["gateway"],)]
        if told and all(isinstance(held_bytes, int) for held_bytes in told):
            self.memory_at_s.append(round(at_s, 3))
            self.resident_bytes.append(sum(told))

    def document(self) -> dict[str, Any]:
        """``{"at_s", "models", "missed", "gateway"}``, or ``{"problem"}`` where the target tells nothing."""
        if not self.at_s:
            return {"problem": self.problem or "the run was over before it was asked"}
        gateway = {"at_s": self.memory_at_s, "resident_bytes": self.resident_bytes}
        return {"at_s": self.at_s, "models": dict(sorted(self.seen.items())), "missed": self.missed, "gateway": gateway}
