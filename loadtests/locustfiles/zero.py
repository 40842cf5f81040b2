"""``locust -f loadtests/locustfiles/zero.py``: see ``loadtests.suites.zero``."""

from __future__ import annotations

from loadtests.generator.suite import SuiteShape, SuiteUser, attach

attach("zero")


class ZeroShape(SuiteShape):
    abstract = False


class ZeroUser(SuiteUser):
    abstract = False
