"""``locust -f loadtests/locustfiles/soak.py``: see ``loadtests.suites.soak``."""

from __future__ import annotations

from loadtests.generator.suite import SuiteShape, SuiteUser, attach

attach("soak")


class SoakShape(SuiteShape):
    abstract = False


class SoakUser(SuiteUser):
    abstract = False
