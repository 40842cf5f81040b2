"""``locust -f loadtests/locustfiles/many_models.py``: see ``loadtests.suites.many_models``."""

from __future__ import annotations

from loadtests.generator.suite import SuiteShape, SuiteUser, attach

attach("many-models")


class ManyModelsShape(SuiteShape):
    abstract = False


class ManyModelsUser(SuiteUser):
    abstract = False
