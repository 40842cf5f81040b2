"""``roundhouse defrag``: the plan in a table, the run move by move."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from models.store.records import CommandReply
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import FLEET, MIB, FakeAdmin
from tests.gateway.test_http_defrag import MOVE, RUN

PLANNED = {
    "replica_id": "a-1", "model_id": "a", "source": "vm/gpu-0", "target": "vm/gpu-1", "moved_bytes": 40 * MIB,
    "start_s": 1.0, "unavailable_s": 0.0, "gain_gpus": 0.48, "cost_gpu_s": 0.4, "after": ["b-1"], "reason": "because",
}  # fmt: skip


def order(empty: int, largest: int) -> dict[str, int]:
    return {"gpus": 2, "empty_gpus": empty, "free_bytes": 100 * MIB, "largest_free_bytes": largest * MIB}


def reply(message: str = "1 move: 0.48 GPU gained for 0.4 GPU-seconds", **detail: Any) -> CommandReply:
    given = {
        "moves": [PLANNED], "gain_gpus": 0.48, "cost_gpu_s": 0.4, "moved_bytes": 40 * MIB, "before": order(0, 60),
        "after": order(1, 100), "stays": [{"replica_id": "b-1", "why": "it is pinned"}], "stays_left_out": 2,
        "at_once": 1, "run": None,
    }  # fmt: skip
    return CommandReply(id="1", ok=True, message=message, detail=given | detail)


def test_a_dry_run_shows_moves_gain_cost_and_who_stays(cli: Cli, admin: FakeAdmin) -> None:
    admin.replies["defrag"] = reply()
    shown = cli("defrag", "--dry-run", "--moves", "3")
    assert admin.asked_for == [{"dry_run": "true", "wait": "false", "timeout_s": "600.0", "moves": "3"}]
    lines = shown.out.splitlines()
    assert lines[0] == "If it were done now: 1 move: 0.48 GPU gained for 0.4 GPU-seconds"
    assert " ".join(lines[2].split()) == "a-1 vm/gpu-0 vm/gpu-1 40 MiB 1.00 s 0.48 GPU 0.4 GPU-s b-1"
    assert lines[3] == ("empty GPUs: 0 now, 1 then, of 2; most free on one: 60 MiB now, 100 MiB then")
    assert lines[4] == "1 at a time; no model is served by fewer replicas meanwhile"
    assert lines[5:] == ["  b-1 stays: it is pinned", "  and 2 more"]


def test_a_run_that_was_waited_for_shows_what_became_of_each_move(cli: Cli, admin: FakeAdmin) -> None:
    over = msgspec.structs.replace(
        RUN, state="done", moves=(msgspec.structs.replace(MOVE, state="failed", took_s=2.5, reason="no weights"),)
    )
    admin.replies["defrag"] = CommandReply(
        id="1", ok=True, message="0 of 1 move done, 1 failed", detail={"run": msgspec.to_builtins(over)}
    )
    shown = cli("defrag", "--wait", "--timeout", "9")
    assert admin.asked_for[0]["wait"] == "true"
    assert admin.asked_for[0]["timeout_s"] == "9.0"
    assert "0 of 1 move done, 1 failed" in shown.out
    assert shown.out.splitlines()[-1].split() == [
        "m-1",
        "m-2",
        "node/0",
        "node/1",
        "failed",
        "2.50",
        "s",
        "no",
        "weights",
    ]


def test_where_nothing_pays_it_says_who_stays_and_why(cli: Cli, admin: FakeAdmin) -> None:
    admin.replies["defrag"] = reply("nothing that can be moved pays", moves=[])
    shown = cli("defrag")
    assert shown.out.splitlines() == ["nothing that can be moved pays", "  b-1 stays: it is pinned", "  and 2 more"]


def test_one_that_has_begun_shows_its_plan(cli: Cli, admin: FakeAdmin) -> None:
    begun = msgspec.to_builtins(msgspec.structs.replace(RUN, moves=()))
    admin.replies["defrag"] = reply("begun, 1 move", run=begun)
    shown = cli("defrag")
    assert "vm/gpu-1" in shown.out
    assert "stays" not in shown.out
    assert "No move has begun yet." in shown.err


def test_how_far_it_is(cli: Cli, admin: FakeAdmin) -> None:
    assert "Nobody has defragmented anything yet." in cli("defrag", "--status").err
    admin.fleet = msgspec.structs.replace(FLEET, defrag=RUN)
    lines = cli("defrag", "--status").out.splitlines()
    assert lines[0] == "running, at most 3 moves, 1 at a time"
    assert lines[2].split() == ["m-1", "m-2", "node/0", "node/1", "starting", "-", "-"]
    assert cli("defrag", "--status", "--json").json["run"]["id"] == "r"


def test_calling_it_off(cli: Cli, admin: FakeAdmin) -> None:
    assert cli("defrag", "--abort").status == 0
    assert cli("defrag", "--abort", "--dry-run", "--json").json["ok"] is True
    assert admin.asked == ["POST /admin/v1/defrag/abort"] * 2
    assert [each["dry_run"] for each in admin.asked_for] == ["false", "true"]
    admin.refuse["/admin/v1/defrag/abort"] = (409, "no defragmentation is going on", "no_defrag")
    refused = cli("defrag", "--abort", "--json")
    assert (refused.status, refused.error["code"]) == (1, "no_defrag")


@pytest.mark.parametrize(
    "given",
    [("--status", "--abort"), ("--status", "--moves", "1"), ("--abort", "--wait"), ("--status", "--dry-run")],
)
def test_what_does_not_go_together_is_said(cli: Cli, admin: FakeAdmin, given: tuple[str, ...]) -> None:
    refused = cli("defrag", *given)
    assert refused.status == 2
    assert "--status and --abort stand alone" in refused.err
    assert admin.asked == []


def test_a_number_of_moves_that_makes_no_sense(cli: Cli, admin: FakeAdmin) -> None:
    assert cli("defrag", "--moves", "0").status == 2
