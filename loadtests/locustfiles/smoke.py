"""``locust -f loadtests/locustfiles/smoke.py``: see ``loadtests.suites.smoke``."""

from __future__ import annotations

from loadtests.generator.suite import SuiteShape, SuiteUser, attach

attach("smoke")


class SmokeShape(SuiteShape):
    abstract = False


class SmokeUser(SuiteUser):
    abstract = False
