"""A model whose weights are on some nodes only would rather be there, as long as that drives nobody away."""

from __future__ import annotations

from dataclasses import replace

from packers.types import Model, ModelId, NodeId
from tests.packers.worlds import decide, model, replica, short, world

TWO = {"n/0": 100, "o/0": 100}


def near(*nodes: str, mib: int = 60) -> Model:
    return replace(model("a", mib, held=1), near=tuple(NodeId(node) for node in nodes))


def test_it_starts_where_its_weights_are() -> None:
    assert short(decide(world(TWO, [near("o")]))) == ["start a on o/0"]
    assert short(decide(world(TWO, [near("n")]))) == ["start a on n/0"]
    assert short(decide(world(TWO, [near("n", "o")]))) == short(decide(world(TWO, [near()])))


def test_nobody_has_to_leave_for_that() -> None:
    """Copying weights takes seconds once; another model's callers would wait, too, and its way back costs as much."""
    resident = replica("b", "o/0", 60, busy=0)
    assert short(decide(world(TWO, [near("o"), model("b")], [resident]))) == ["start a on n/0"]


def test_a_node_that_is_gone_is_no_reason_to_wait() -> None:
    assert short(decide(world(TWO, [near("gone")]))) == ["start a on n/0"]


def test_kin_counts_more_than_weights() -> None:
    wanted = replace(near("n", mib=20), affinity=(ModelId("b"),))
    residents = [replica("b", "o/0", 60, busy=1)]
    assert short(decide(world(TWO, [wanted, model("b", in_flight=1)], residents))) == ["start a on o/0"]
    alone = world(TWO, [replace(near("o", mib=20), affinity=(ModelId("b"),)), model("b")])
    assert short(decide(alone)) == ["start a on o/0"], "there is no kin anywhere"
