"""Three machines, real Ray, real engines: they serve together, and what breaks on one is no matter of the others.

The tests share one cluster, and leave it as they found it: three replicas, each on a machine of its own.
"""

from __future__ import annotations

import signal
import time

import pytest

from tests.cluster.conftest import Cluster
from tests.cluster.hosts import until
from tests.cluster.machines import all_ready, callers

pytestmark = [pytest.mark.e2e, pytest.mark.chaos]


def nodes(cluster: Cluster) -> dict[str, str]:
    """Which node each replica is on."""
    return {replica: found["node"] for replica, found in cluster.head.replicas().items()}


def test_models_are_placed_over_all_machines(cluster: Cluster) -> None:
    gpus = {gpu["id"]: gpu for gpu in cluster.head.done("gpus")["data"]}
    assert gpus.keys() == {"head/gpu-0", "a/gpu-0", "b/gpu-0"}
    assert all(len(gpu["replicas"]) == 1 for gpu in gpus.values())
    assert gpus["a/gpu-0"]["pool"] == "spot"
    assert sorted(nodes(cluster).values()) == ["a", "b", "head"]


def test_requests_are_answered_through_every_gateway_by_engines_of_every_machine(cluster: Cluster) -> None:
    before = {replica: found["in_flight"] for replica, found in cluster.head.replicas().items()}
    for machine in (cluster.head, cluster.b):
        answers = [machine.chat() for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 6, [answer.text for answer in answers]
    assert before.keys() == nodes(cluster).keys()
