"""``roundhouse plan``: what would be done, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.plan_views import plan_document
from models.control.recording import Step
from packers.decide import Policies, decide
from packers.types import Candidate, GpuId, ModelId, Plan, ReplicaId, Sleep
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import FakeAdmin
from tests.gateway.test_http_packing import step


@pytest.fixture
def planned(admin: FakeAdmin) -> FakeAdmin:
    """n serves on the only GPU; m does not fit beside it."""
    admin.plan = plan_document(step(), explain=True, model=None, wake=None, drain=None)
    return admin


def test_nothing_to_be_done_is_said(cli: Cli, planned: FakeAdmin) -> None:
    shown = cli("plan")
    assert shown.status == 0
    assert shown.out.startswith("Nothing is to be done.\n")
    assert "snapshot 12; policies: placement" in shown.err
    row = next(line for line in shown.out.splitlines() if line.startswith("n "))
    assert row.split()[:6] == ["n", "ready", "on", "node/0", "1", "0"]


def test_explained_it_says_what_would_help(cli: Cli, planned: FakeAdmin) -> None:
    shown = cli("plan", "--explain")
    assert "\n  fits on node/0 if n (busy) sleeps: 1 s to wake it again\n" in shown.out
    assert "n: is served at once (n-1 on node/0)" in shown.out


def test_actions_come_with_their_reasons_and_candidates(cli: Cli, admin: FakeAdmin) -> None:
    candidates = (Candidate(GpuId("node/0"), 2**20, score=0.25), Candidate(GpuId("node/1"), 0, rejected="a is busy"))
    action = Sleep(ReplicaId("n-1"), ModelId("n"), GpuId("node/0"), "makes room", ModelId("org/m"), candidates)
    before = step()
    acting = Step(snapshot=before.snapshot, policies=before.policies, plan=replace(before.plan, actions=(action,)))
    admin.plan = plan_document(acting, explain=False, model=None, wake=None, drain=None)
    assert cli("plan").out.splitlines()[:3] == [
        "sleep   n on node/0 for org/m: makes room",
        "  node/0  1 MiB free  score 0.25",
        "  node/1  0 B free  rejected: a is busy",
    ]


def test_what_is_asked_reaches_the_service(cli: Cli, planned: FakeAdmin) -> None:
    asked = cli("plan", "--explain", "--model", "n", "--wake", "org/m", "--drain", "node/0", "--json").json["what_if"]
    assert asked == str([("drain", "node/0"), ("explain", "true"), ("model", "n"), ("wake", "org/m")])
    assert cli("plan", "--json").json["what_if"] is None
    assert "If [('wake', 'n')]:" in cli("plan", "--wake", "n").out


def test_a_model_that_is_not_there(cli: Cli, planned: FakeAdmin) -> None:
    planned.refuse["/admin/v1/plan"] = (404, "there is no model 'x'.", "not_found")
    said = cli("plan", "--wake", "x")
    assert (said.status, said.err) == (1, "error: there is no model 'x'.\n")


def test_the_document_of_a_hypothetical_world_is_decided_anew() -> None:
    found = plan_document(step(), explain=False, model=None, wake="org/m", drain=None)
    assert [action.action for action in found.actions] == ["hold"]
    assert found.what_if == "org/m is called"
    assert Plan("12", ()) == decide(step().snapshot, Policies())


def test_policies_without_a_value_are_left_out(cli: Cli, planned: FakeAdmin) -> None:
    assert planned.plan is not None
    planned.plan.policies["defrag_budget.stay"] = ""
    assert "stay" not in cli("plan").err
