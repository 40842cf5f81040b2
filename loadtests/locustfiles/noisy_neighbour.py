"""``locust -f loadtests/locustfiles/noisy_neighbour.py``: see ``loadtests.suites.noisy_neighbour``."""

from __future__ import annotations

from loadtests.generator.suite import SuiteShape, SuiteUser, attach

attach("noisy-neighbour")


class NoisyNeighbourShape(SuiteShape):
    abstract = False


class NoisyNeighbourUser(SuiteUser):
    abstract = False
