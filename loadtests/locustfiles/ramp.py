"""``locust -f loadtests/locustfiles/ramp.py``: see ``loadtests.suites.ramp``."""

from __future__ import annotations

from loadtests.generator.suite import SuiteShape, SuiteUser, attach

attach("ramp")


class RampShape(SuiteShape):
    abstract = False


class RampUser(SuiteUser):
    abstract = False
