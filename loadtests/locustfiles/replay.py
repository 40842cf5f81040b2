"""``locust -f loadtests/locustfiles/replay.py``: see ``loadtests.suites.replay``."""

from __future__ import annotations

from loadtests.generator.suite import SuiteShape, SuiteUser, attach

attach("replay")


class ReplayShape(SuiteShape):
    abstract = False


class ReplayUser(SuiteUser):
    abstract = False
