"""What the audit log says of orders to the controller."""

from __future__ import annotations

from gateway.order_acts import act_of, asked_of, is_act, stand_of
from models.store.records import Command
from tests.gateway.test_http_admin import fleet


def test_what_only_looks_is_no_act() -> None:
    assert not is_act(Command(id="1", verb="snapshot"))
    assert not is_act(Command(id="1", verb="weights", node="node"))
    assert not is_act(Command(id="1", verb="wake", model_id="m", dry_run=True))
    assert is_act(Command(id="1", verb="reload"))


def test_acts_are_named_by_what_they_are_done_to() -> None:
    assert act_of(Command(id="1", verb="wake", model_id="m")) == "model.wake"
    assert act_of(Command(id="1", verb="drain", node="n")) == "node.drain"
    assert act_of(Command(id="1", verb="undrain", gpu="n/0")) == "gpu.undrain"
    assert act_of(Command(id="1", verb="defrag", moves=3)) == "service.defrag"


def test_what_was_asked_is_what_was_said() -> None:
    command = Command(id="1", verb="warm", model_id="m", replicas=2, until_unix_s=9.0, wait=True)
    assert asked_of(command) == {"verb": "warm", "model_id": "m", "replicas": 2, "until_unix_s": 9.0}


def test_how_it_stood_before() -> None:
    there = fleet()
    assert stand_of(Command(id="1", verb="stop", model_id="org/m"), there) == {"replicas": {"m-1": "ready"}, "warm": []}
    node = stand_of(Command(id="1", verb="drain", node="node"), there)
    assert node is not None
    assert (node["id"], node["drained"]) == ("node", False)
    gpu = stand_of(Command(id="1", verb="drain", gpu="node/1"), there)
    assert gpu is not None
    assert gpu["cordoned"] is False
    assert stand_of(Command(id="1", verb="drain", gpu="node/7"), there) is None
    assert stand_of(Command(id="1", verb="defrag"), there) == {"defrag": None}
    assert stand_of(Command(id="1", verb="reload"), there) is None
    assert stand_of(Command(id="1", verb="wake", model_id="m"), None) is None
