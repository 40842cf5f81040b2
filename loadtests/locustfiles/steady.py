"""``locust -f loadtests/locustfiles/steady.py``: see ``loadtests.suites.steady``."""

from __future__ import annotations

from loadtests.generator.suite import SuiteShape, SuiteUser, attach

attach("steady")


class SteadyShape(SuiteShape):
    abstract = False


class SteadyUser(SuiteUser):
    abstract = False
