"""``locust -f loadtests/locustfiles/chaos.py``: see ``loadtests.suites.chaos``."""

from __future__ import annotations

from loadtests.generator.suite import SuiteShape, SuiteUser, attach

attach("chaos")


class ChaosShape(SuiteShape):
    abstract = False


class ChaosUser(SuiteUser):
    abstract = False
