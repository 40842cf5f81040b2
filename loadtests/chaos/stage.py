"""What a cell of the matrix is played on: a running service, its processes, and everybody who calls it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from loadtests.chaos.callers import Callers
from loadtests.chaos.calls import Call
from loadtests.chaos.census import Census, Process
from loadtests.coldstart.admin import Admin
from loadtests.wire import get_json


@dataclass(slots=True)
class Stage:
    """``engine``: the one that the moment is about. ``wanted``: a model that nobody serves yet, for which something
    has to be started. ``evicted``: the model that makes room for it."""

    admin: Admin
    census: Census
    steady: Callers = field(init=False)  # who calls what serves, all the time
    waiting: Callers = field(init=False)  # who waits for a start when it happens
    fresh: Callers = field(init=False)  # who comes afterwards, to what serves
    asking: Callers = field(init=False)  # who comes afterwards, to what has to be started
    later: Callers = field(init=False)  # who comes when all is over
    engine: Process | None = None
    wanted: str = ""
    evicted: str = ""

    def __post_init__(self) -> None:
        made = (Callers(self.admin.target) for _ in range(5))
        self.steady, self.waiting, self.fresh, self.asking, self.later = made

    @property
    def everybody(self) -> tuple[Callers, ...]:
        return (self.steady, self.waiting, self.fresh, self.asking, self.later)

    def calls(self) -> list[Call]:
        """All that are over, whoever made them."""
        return [call for callers in self.everybody for call in list(callers.calls) if call.over]

    def status(self) -> dict[str, Any]:
        """Raises CallFailed."""
        found: dict[str, Any] = get_json(self.admin.target, "/admin/v1/status", admin=True, timeout_s=4.0)
        return found

    def engines_of(self, model: str) -> list[dict[str, Any]]:
        """Ready replicas of a model, as the controller knows them. Raises CallFailed."""
        return [replica for replica in self.admin.replicas(model) if replica["state"] == "ready"]
