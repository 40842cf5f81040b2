"""Who may go where at once, and who is told that there is no way."""

from __future__ import annotations

import pytest

from gateway.admit import Outcome
from gateway.admit.refusals import without_folders
from gateway.errors import ModelNotFound, ModelStartFailed, Unavailable
from packers.types import ReplicaId
from tests.gateway.admit.scene import M, Scene, failed, inquiry, model, replica


def test_a_ready_replica_is_claimed_and_counted_in_the_same_step() -> None:
    scene = Scene()
    scene.table(model("a"))
    claim = scene.ask().claim
    assert claim is not None
    assert (claim.model, claim.replica, claim.endpoint, claim.serves_as) == (M, "a", "unix:/a", None)
    assert (claim.waited_s, claim.woken, claim.retry) == (0.0, False, False)
    assert (scene.flying("a"), scene.admission.in_flight) == (1, 1)
    scene.admission.give_back(claim, Outcome.OK)
    assert (scene.flying("a"), scene.admission.in_flight) == (0, 0)


def test_a_place_is_given_back_once_however_often_it_is_tried() -> None:
    scene = Scene()
    scene.table(model("a"))
    first, second = scene.ask(), scene.ask()
    for _ in range(3):
        scene.end(first)
    assert (scene.flying("a"), scene.admission.in_flight, scene.demand.in_flight(M)) == (1, 1, 1)
    scene.end(second)
    assert (scene.flying("a"), scene.demand.in_flight(M)) == (0, 0)


def test_how_long_a_place_was_taken_is_counted_when_it_is_given_back() -> None:
    scene = Scene()
    scene.table(model("a"))
    asked = scene.ask()
    scene.wait(2.5)
    scene.end(asked)
    told = scene.demand.report("w", 1, 0.0).models[M]
    assert (told.arrived, told.finished) == (1, 1)
    assert told.busy_s == pytest.approx(2.5)


def test_a_model_is_found_by_alias_and_by_adapter() -> None:
    scene = Scene()
    scene.table(model("a", aliases=("alias",), adapters=("tuned",)))
    for name in ("m", "alias", "tuned"):
        claim = scene.ask(name).claim
        assert claim is not None
        assert claim.model == M


def test_an_upstream_may_know_the_model_by_another_name_but_an_adapter_keeps_its_own() -> None:
    scene = Scene()
    scene.table(model(replica("a", serves_as="org/m"), adapters=("tuned",)))
    names = {name: scene.ask(name).claim for name in ("m", "tuned")}
    assert names["m"] is not None
    assert names["tuned"] is not None
    assert (names["m"].serves_as, names["tuned"].serves_as) == ("org/m", None)


def test_the_path_may_name_the_model() -> None:
    scene = Scene()
    scene.table(model("a"))
    asked = inquiry("")
    asked.path_model = "m"
    assert scene.admission.admit(asked, scene.ask()) is not None


def test_an_unknown_model_is_not_found_but_while_starting_nobody_can_know() -> None:
    scene = Scene()
    assert isinstance(scene.ask().error, Unavailable)
    scene.table(model())
    missing = scene.ask("nope").error
    assert isinstance(missing, ModelNotFound)
    assert "nope" in missing.message
    with pytest.raises(ModelNotFound):
        scene.admission.admit(inquiry("nope"), scene.ask())


def test_while_the_next_attempt_is_not_due_requests_are_refused_at_once() -> None:
    scene = Scene()
    scene.table(model(failure=failed(at_s=scene.now_s, retry_after_s=30)))
    scene.wait(12)
    refused = scene.ask().error
    assert isinstance(refused, ModelStartFailed)
    assert refused.headers() == [("retry-after", "18")]
    assert scene.held == 0


def test_a_permanent_failure_is_told_at_once_and_not_to_be_retried() -> None:
    scene = Scene()
    scene.table(model(failure=failed(at_s=0.0, permanent=True)))
    refused = scene.ask().error
    assert isinstance(refused, ModelStartFailed)
    assert refused.headers() == [("x-should-retry", "false")]


def test_a_ready_replica_counts_more_than_a_failure() -> None:
    scene = Scene()
    scene.table(model("a", failure=failed(at_s=0.0, permanent=True)))
    assert scene.ask().at == "a"


def test_what_is_in_flight_on_a_draining_replica_is_waited_for() -> None:
    scene = Scene()
    scene.table(model("a"))
    first, second = scene.ask(), scene.ask()
    scene.table(model(replica("a", state="draining"), "b"))
    assert scene.ask().at == "b"
    scene.demand.pace.sent(0.0)
    scene.end(first)
    assert not scene.demand.pace.urgent
    scene.end(second)
    assert scene.demand.pace.urgent, "the controller waits to hear that nothing is left there"


def test_a_replica_that_comes_back_into_the_table_still_has_what_it_had() -> None:
    scene = Scene()
    scene.table(model("a", "b", slots=1))
    there = [scene.ask(), scene.ask()]
    assert {one.at for one in there} == {"a", "b"}
    scene.table(model("b", slots=1))
    scene.table(model("a", "b", slots=1))
    assert scene.ask().waits, "both are full, also the one that was gone for a moment"


def test_a_model_that_is_gone_and_comes_back_is_the_same() -> None:
    scene = Scene()
    scene.table(model("a", slots=1))
    asked = scene.ask()
    scene.table()
    assert isinstance(scene.ask().error, ModelNotFound)
    scene.table(model("a", slots=1))
    waiting = scene.ask()
    assert waiting.waits
    scene.end(asked)
    scene.turn()
    assert waiting.at == "a"


def test_a_model_that_comes_back_as_the_very_same_record_is_open_again() -> None:
    scene, route = Scene(), model("a")
    scene.table(route)
    scene.ask()
    scene.table()
    scene.table(route)
    assert scene.ask().at == "a"


def test_nothing_is_kept_of_models_and_replicas_that_are_gone() -> None:
    scene = Scene()
    scene.table(model("a"), model("b", name="n"))
    lost = scene.ask()
    scene.end(lost, Outcome.LOST)
    scene.end(scene.ask("n"))
    assert len(scene.admission.rotation) == 1
    scene.table()
    assert len(scene.admission.rotation) == 0


def test_a_replica_that_nobody_knows_cannot_be_put_out() -> None:
    scene = Scene()
    assert not scene.admission.eject(ReplicaId("gone"))


def test_a_tenant_without_any_weight_is_served_as_well() -> None:
    scene = Scene()
    scene.table(model("a", slots=1))
    holder, waiting = scene.ask(), scene.ask(tenant="nobody", weight=0.0, tokens=0)
    scene.wait(1)
    scene.end(holder)
    scene.turn()
    assert waiting.at == "a"
    assert scene.ask(tenant="nobody", weight=0.0).waits
    assert scene.ask(tenant="somebody").waits


def test_a_revision_without_a_share_gets_nothing_even_when_the_others_are_out_for_a_moment() -> None:
    scene = Scene()
    old, new = replica("a", revision="old"), replica("b", revision="new")
    scene.table(model(old, new, traffic={"old": 1.0, "new": 0.0}))
    asked = [scene.ask() for _ in range(5)]
    assert {one.at for one in asked} == {"a"}
    scene.end(asked[0], Outcome.LOST)
    assert scene.ask().waits
    scene.table(model(new, traffic={"old": 1.0}))
    assert scene.ask(prefix=1).at == "b", "there is no other"


def test_traffic_is_split_between_revisions() -> None:
    scene = Scene()
    there = [replica(f"{name}-{number}", revision=name) for name in ("old", "new") for number in range(2)]
    scene.table(model(*there, traffic={"old": 3.0, "new": 1.0}))
    at = [scene.ask(session=session).at for session in range(1, 401)]
    assert 70 < sum(name.startswith("new") for name in at) < 130


def test_upstreams_without_any_weight_are_used_when_there_is_no_other() -> None:
    scene = Scene()
    scene.table(model(replica("a", weight=0.0), replica("b", weight=0.0)))
    assert {scene.ask(prefix=prefix).at for prefix in range(40)} == {"a", "b"}


def test_callers_are_not_told_where_files_lie() -> None:
    told = "Model 'm' cannot be started from /srv/models/tiny: its file weights/model.safetensors is cut off."
    assert without_folders(told) == (
        "Model 'm' cannot be started from tiny: its file weights/model.safetensors is cut off."
    )
    assert without_folders("see hf://org/repo@main and 1/2 GPUs") == "see hf://org/repo@main and 1/2 GPUs"
