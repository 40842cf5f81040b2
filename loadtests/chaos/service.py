"""The service that is broken: the harness's own, in a home of its own, brought up anew when a cell has ruined it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtests.chaos.census import Census, Process, count
from loadtests.chaos.scene import SOURCE, STEADY, STEADY_REPLICAS, write_config
from loadtests.coldstart.admin import Admin
from loadtests.coldstart.child import free_port
from loadtests.coldstart.scene import make_models
from loadtests.coldstart.service import OwnService, ServiceFailed
from loadtests.wire import CallFailed

SETTLE_S = 60.0
QUIET_S = 1.0  # as long as the processes must have been the same ones
LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Up:
    """A running service. ``before``: how many processes there are of each kind while all is well."""

    admin: Admin
    census: Census
    before: Mapping[str, int]


class ChaosService:
    """``home``: an empty folder with a short path, for sockets lie below it."""

    def __init__(self, home: Path) -> None:
        """Makes the model. Raises CallFailed."""
        home.mkdir(parents=True, exist_ok=True)
        config = home / "chaos.yaml"
        write_config(config, make_models(home / "models", [SOURCE])[SOURCE])
        self._own = OwnService(home, free_port(), config=config)
        self._up: Up | None = None
        self.starts = 0

    def up(self) -> Up:
        """The service, started when it is not running. Raises ServiceFailed, CallFailed; then nothing runs."""
        if self._up is None:
            self.starts += 1
            try:
                self._up = self._start()
            except CallFailed:
                with contextlib.suppress(ServiceFailed):  # the first problem is the one to tell of
                    self._own.down()
                raise
        return self._up

    def _start(self) -> Up:
        target, _ = self._own.up(STEADY)
        admin, census = Admin(target), self._census()
        _settle(admin, census)
        return Up(admin, census, count(census.look()))

    def down(self) -> tuple[Process, ...]:
        """End it; what is left of it, which should be nothing. Raises ServiceFailed."""
        if self._up is None:
            return ()
        census, self._up = self._up.census, None
        self._own.down()
        return census.look()

    def _census(self) -> Census:
        record = json.loads((self._own.home / "run" / "service.json").read_text())
        return Census(record["instance"], Path(record["home"]) / "logs" / "engines")


def _settle(admin: Admin, census: Census) -> None:
    """Until nothing is being started any more. Raises ServiceFailed."""
    give_up_s = time.monotonic() + SETTLE_S
    same_since_s, seen = time.monotonic(), census.look()
    while time.monotonic() - same_since_s < QUIET_S or _running(admin) < STEADY_REPLICAS:
        if time.monotonic() > give_up_s:
            kinds = dict(count(seen))
            raise ServiceFailed(f"the service does not come to rest within {SETTLE_S:g} s; its processes: {kinds}")
        time.sleep(LOOK_S)
        now = census.look()
        if {process.pid for process in now} != {process.pid for process in seen}:
            same_since_s, seen = time.monotonic(), now


def _running(admin: Admin) -> int:
    return sum(replica["state"] == "ready" for replica in admin.replicas(STEADY))
