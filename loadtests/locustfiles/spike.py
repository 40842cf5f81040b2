"""``locust -f loadtests/locustfiles/spike.py``: see ``loadtests.suites.spike``."""

from __future__ import annotations

from loadtests.generator.suite import SuiteShape, SuiteUser, attach

attach("spike")


class SpikeShape(SuiteShape):
    abstract = False


class SpikeUser(SuiteUser):
    abstract = False
