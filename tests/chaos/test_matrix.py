"""A short way through the chaos matrix: each fault once, on real engines, Redis and Ray; ``make chaos`` plays it all.

What a cell has to keep to is in ``loadtests.chaos.verdict``, with the figures of the promises.
"""

from __future__ import annotations

import json

import pytest

from loadtests.chaos.__main__ import play_cell
from loadtests.chaos.faults import FAULTS
from loadtests.chaos.matrix import cell_text
from loadtests.chaos.service import ChaosService
from loadtests.chaos.verdict import PRICES, broken

pytestmark = pytest.mark.chaos

SILENT_S = 6.0
# In an order in which no part dies twice within a short time: what does is started again later and later.
CELLS = (
    ("gcs-9", "load"),
    ("engine-9", "load"),
    ("worker-9", "load"),
    ("controller-9", "load"),
    ("redis-9", "evict"),
    ("redis-silent", "idle"),
    ("launcher-9", "idle"),
    ("engine-stop", "idle"),
    ("raylet-9", "start"),
)


LONG = {"gcs-9", "raylet-9"}  # a minute together; tests/cluster kills them as well


@pytest.mark.parametrize(
    ("fault", "moment"),
    [
        pytest.param(f, m, id=f"{PRICES[f].promise}-{f}-{m}", marks=[pytest.mark.long] if f in LONG else [])
        for f, m in CELLS
    ],
)
def test_cell(service: ChaosService, fault: str, moment: str) -> None:
    result = play_cell(service, fault, moment, SILENT_S)
    print(f"{fault} x {moment}: {cell_text(result)}")
    if result.problem or not result.recovered.whole:
        service.down()  # the next cell gets one that is well
    if broken(result):
        print(json.dumps(result.document(), indent=1))
    assert broken(result) == []
    assert result.seen.ledgers > 10
    assert result.seen.looks > 10


def test_each_fault_is_played_but_for_those_that_are_much_like_others() -> None:
    assert FAULTS.keys() - {fault for fault, _ in CELLS} == {"controller-silent", "keeper-9", "node-9"}
