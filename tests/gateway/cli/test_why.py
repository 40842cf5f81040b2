"""``roundhouse why``: everything about one model on one screen."""

from __future__ import annotations

import json

import msgspec
import pytest

from gateway.decision_views import newest_first
from gateway.plan_documents import CandidateView, IfCalled
from gateway.why_documents import Why, WhyReplica
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import MIB, NOW_UNIX_S, FakeAdmin
from tests.gateway.cli.test_decisions import came, estimated

DECISIONS = newest_first((came(2, 1, 0.28), estimated(1)), 8).data
REPLICA = WhyReplica(
    replica_id="tiny-llama-1", model_id="tiny-llama", gpu="vm/gpu-0", state="ready", since_unix_s=NOW_UNIX_S - 720,
    in_flight=0, gpu_bytes=176 * MIB, reason="ready after 0.28 s", because=DECISIONS[1], keeps="it is pinned",
)  # fmt: skip
SERVES = Why(
    subject="model", name="tiny-llama", at_unix_s=NOW_UNIX_S, summary="tiny-llama serves on vm/gpu-0",
    replicas=(REPLICA,), decisions=DECISIONS, helps=("call it less",),
    if_called=IfCalled(
        outcome="serves", summary="serves now", candidates=(CandidateView(gpu="vm/gpu-1", free_bytes=MIB, score=0.5),)
    ),
)  # fmt: skip


def test_one_screen(cli: Cli, admin: FakeAdmin) -> None:
    admin.why = SERVES
    shown = cli("why", "llama")
    assert shown.status == 0
    assert admin.asked_for == [{"model": "llama", "limit": "8"}]
    lines = shown.out.splitlines()
    assert lines[:2] == ["tiny-llama serves on vm/gpu-0", "  tiny-llama-1: ready on vm/gpu-0 for 12m, holds 176 MiB"]
    assert lines[2].startswith("    start at ")
    assert lines[2].endswith(": reason 1 (estimate 0.30 s, took 0.28 s)")
    assert lines[3:7] == ["    it is pinned", "", "A request now: serves now", "  vm/gpu-1  1 MiB free  score 0.5"]
    assert lines[8] == "Decided last:"
    assert [line.split()[1] for line in lines[9:11]] == ["ready", "start"]
    assert lines[-2:] == ["What would help:", "  - call it less"]


def test_as_json_the_answer_is_passed_on_whole(cli: Cli, admin: FakeAdmin) -> None:
    admin.why = SERVES
    assert cli("why", "llama", "--json").json == json.loads(msgspec.json.encode(SERVES))


def test_while_no_controller_answers_it_says_so(cli: Cli, admin: FakeAdmin) -> None:
    admin.why = msgspec.structs.replace(SERVES, if_called=None, unknown="No controller took the order.", replicas=())
    assert "\nA request now: nobody can say. No controller took the order.\n" in cli("why", "llama").out


@pytest.mark.parametrize(("given", "query"), [(("--replica", "r-1"), "replica"), (("--gpu", "vm/gpu-0"), "gpu")])
def test_replicas_and_gpus(cli: Cli, admin: FakeAdmin, given: tuple[str, str], query: str) -> None:
    unexplained = msgspec.structs.replace(REPLICA, because=None, keeps="")
    admin.why = msgspec.structs.replace(
        SERVES, subject=query, if_called=None, replicas=(unexplained,), decisions=(), helps=()
    )
    shown = cli("why", *given, "--limit", "3")
    assert admin.asked_for == [{query: given[1], "limit": "3"}]
    assert "A request now" not in shown.out
    assert shown.out.splitlines()[-1] == "    ready after 0.28 s"


@pytest.mark.parametrize("given", [(), ("m", "--gpu", "g"), ("--replica", "r", "--gpu", "g")])
def test_exactly_one_thing_is_asked_about(cli: Cli, admin: FakeAdmin, given: tuple[str, ...]) -> None:
    refused = cli("why", *given)
    assert refused.status == 2
    assert "cure: roundhouse why MODEL, why --replica REPLICA, or why --gpu GPU" in refused.err
    assert admin.asked == []


def test_what_is_not_there(cli: Cli, admin: FakeAdmin) -> None:
    admin.refuse["/admin/v1/why"] = (404, "The catalog has no model 'gpt-9'.", "model_not_found")
    refused = cli("why", "gpt-9", "--json")
    assert (refused.status, refused.error["code"]) == (1, "model_not_found")
