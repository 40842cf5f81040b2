"""The orders that put a model into the state to be measured, and the proof that it is in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from loadtests.target import Target
from loadtests.wire import CallFailed, get_json, post_json

ORDER_TIMEOUT_S = 60.0
SETTLE_S = 15.0  # the admin API shows what the controller last wrote, which may be a second old
POLL_S = 0.05
SWITCH_S = 60.0  # weights that are to be packed are packed by then


class NotInState(CallFailed):
    """The service did not bring the model into the state that was to be measured."""


@dataclass(frozen=True, slots=True)
class Admin:
    """``sleep`` and ``clock``: the caller's time, in seconds."""

    target: Target
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def replicas(self, model: str | None = None) -> list[dict[str, Any]]:
        """Living replicas. Raises CallFailed."""
        found = get_json(self.target, "/admin/v1/replicas", admin=True)["data"]
        return [r for r in found if r["state"] != "dead" and model in (None, r["model_id"])]

    def source(self, model: str) -> str:
        """Where the catalog has the model's weights from. Raises CallFailed."""
        return str(get_json(self.target, f"/admin/v1/models/{quote(model, safe='')}", admin=True)["source"])

    def stop(self, model: str) -> None:
        """Returns when no replica of the model exists. Raises CallFailed, NotInState."""
        self._order(model, "stop")
        self._expect(model, "stopped", lambda states: not states)

    def put_to_sleep(self, model: str) -> None:
        """Returns when the model's replicas are all asleep, and there is one. Raises CallFailed, NotInState."""
        self._order(model, "sleep")
        self._expect(model, "asleep", lambda states: set(states) == {"asleep"})

    def wake(self, model: str) -> None:
        """Returns when the model serves. Raises CallFailed."""
        path = f"/admin/v1/models/{quote(model, safe='')}/wake?wait=true"
        post_json(self.target, path, None, admin=True, timeout_s=ORDER_TIMEOUT_S)

    def await_settled(self, model: str) -> str:
        """Wait until the weights of the model's replicas are as they will stay; how they lie. Raises CallFailed."""
        deadline_s = self.clock() + SWITCH_S
        while True:
            lies = {str((replica.get("detail") or {}).get("weights", "copied")) for replica in self.replicas(model)}
            if not lies & {"mapped", "packing"} or self.clock() > deadline_s:
                return ", ".join(sorted(lies))
            self.sleep(POLL_S)

    def _order(self, model: str, verb: str) -> None:
        self._await_idle(model)
        path = f"/admin/v1/models/{quote(model, safe='')}/{verb}?wait=true"
        post_json(self.target, path, None, admin=True, timeout_s=ORDER_TIMEOUT_S)

    def _await_idle(self, model: str) -> None:
        """Until nobody's request is known of: a demand that was reported a moment ago would start the model again."""
        deadline_s = self.clock() + SETTLE_S
        while busy := self._requests(model):
            if self.clock() > deadline_s:
                raise NotInState(f"{model} still has {busy} requests after {SETTLE_S:g} s; is somebody else using it?")
            self.sleep(POLL_S)

    def _requests(self, model: str) -> int:
        shown = get_json(self.target, f"/admin/v1/models/{quote(model, safe='')}", admin=True)
        return int(shown["in_flight"]) + int(shown["held"])

    def _expect(self, model: str, wanted: str, reached: Callable[[list[str]], bool]) -> None:
        deadline_s = self.clock() + SETTLE_S
        while not reached(states := [replica["state"] for replica in self.replicas(model)]):
            if self.clock() > deadline_s:
                shown = ", ".join(states) or "not running"
                raise NotInState(f"{model} was told to be {wanted}, but is {shown} after {SETTLE_S:g} s")
            self.sleep(POLL_S)
