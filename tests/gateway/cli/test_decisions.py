"""``roundhouse decisions``: estimates beside what things took, following, and exporting."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.cli.decision_text import line, more, price, timing
from models.store.records import DecisionRecord
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import MIB, NOW_UNIX_S, FakeAdmin, decision

COST = {"load_s": 2.1, "back_s": 0.4, "moved_bytes": 600 * MIB, "delays": {"qwen": 0.4}}


def estimated(number: int, **more: Any) -> DecisionRecord:
    details = {"estimate_s": 0.3, "estimated_from": "measured", "cost": COST, **more}
    return msgspec.structs.replace(decision(number), key=f"k{number}", details=details)


def came(number: int, of: int, took_s: float, action: str = "ready") -> DecisionRecord:
    details = {"took_s": took_s, "estimate_s": 0.3}
    return msgspec.structs.replace(decision(number, action), key=f"k{number}", of=f"k{of}", details=details)


def as_json(record: DecisionRecord, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(record)
    return found | more


def test_a_decision_shows_its_estimate_and_then_what_it_took(cli: Cli, admin: FakeAdmin) -> None:
    admin.decisions = [estimated(1)]
    assert cli("decisions").out.rstrip().endswith("start   tiny-llama on vm/gpu-0: reason 1 (estimate 0.30 s)")
    admin.decisions += [came(2, 1, 0.28)]
    first, second = cli("decisions").out.splitlines()
    assert first.endswith("reason 1 (estimate 0.30 s, took 0.28 s)")
    assert second.endswith("reason 2 (took 0.28 s, estimated 0.30 s)")
    (ready, start) = cli("decisions", "--json").json["data"]
    assert (start["outcome"]["took_s"], start["outcome"]["action"], ready["outcome"]) == (0.28, "ready", None)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (as_json(decision(1)), ""),
        (as_json(estimated(1, estimated_from="assumed")), "estimate 0.30 s, assumed"),
        (as_json(estimated(1, estimated_from="others")), "estimate 0.30 s, by other models"),
        (as_json(estimated(1, estimate_s=12.6)), "estimate 13 s"),
        (as_json(estimated(1), outcome={"action": "failed", "took_s": 3.0}), "estimate 0.30 s; failed"),
        (as_json(estimated(1), outcome={"action": "ready", "took_s": None}), "estimate 0.30 s"),
        (as_json(msgspec.structs.replace(came(2, 1, 1.0), details={})), ""),
    ],
)
def test_times_are_told_as_far_as_they_are_known(found: dict[str, Any], told: str) -> None:
    assert timing(found) == told
    assert line(found).endswith(f" ({told})" if told else found["reason"])


def test_explained_a_decision_shows_its_price_and_what_else_was_possible(cli: Cli, admin: FakeAdmin) -> None:
    looked_at = [
        {"gpu": "vm/gpu-0", "free_bytes": MIB, "score": 0.25, "rejected": None},
        {"gpu": "vm/gpu-1", "free_bytes": MIB, "score": None, "rejected": "cordoned"},
    ]
    admin.decisions = [estimated(1, candidates=looked_at, counterfactuals=["else it fits elsewhere"])]
    assert len(cli("decisions").out.splitlines()) == 1
    shown = [each.strip() for each in cli("decisions", "--explain").out.splitlines()]
    assert shown[1:] == [
        "cost: 2.10 s of loading, 600 MiB moved; delays the next caller of qwen by 0.40 s",
        "vm/gpu-0  1 MiB free  score 0.25",
        "vm/gpu-1  1 MiB free  rejected: cordoned",
        "else it fits elsewhere",
    ]


def test_a_move_shows_its_gain_and_what_costs_nothing_says_so() -> None:
    found = as_json(estimated(1, gain_gpus=0.48, cost_gpu_s=4.0))
    assert "gain: 0.48 GPU for 4.0 GPU-seconds" in list(more(found))
    assert price({"load_s": 0.0, "moved_bytes": 0, "delays": {}}) == "nothing is moved"


def following(
    admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch, events: list[Any], *, patience: int = 60
) -> list[dict[str, str]]:
    """Each time the command waits or tries again the next thing happens. What was asked of the service."""
    real = admin.answer
    story = iter(events)
    clock = iter(range(10_000))

    def happens() -> None:
        event = next(story)
        if isinstance(event, list):
            admin.decisions += event
            admin.refuse.clear()
        else:
            admin.refuse["/admin/v1/decisions"] = event

    def answer(method: str, target: str, key: str | None) -> tuple[int, object]:
        if "after=" in target:
            happens()
        return real(method, target, key)

    monkeypatch.setattr(admin, "answer", answer)
    monkeypatch.setattr("gateway.cli.decisions.time.sleep", lambda _: None)
    monkeypatch.setattr("gateway.cli.decisions.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("gateway.cli.decisions.PATIENCE_S", float(patience))
    return admin.asked_for


AWAY = (503, "Redis does not answer; try again.", "store_unavailable")
UNKNOWN = (404, "there is no such thing", "not_found")


def test_following_goes_on_over_a_service_that_is_away_and_misses_nothing(
    cli: Cli, admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.decisions = [decision(1)]
    asked = following(
        admin, monkeypatch, [[decision(2), decision(10)], [], AWAY, AWAY, [decision(11)], AWAY, [decision(12)], UNKNOWN]
    )
    followed = cli("decisions", "--follow", "--json")
    ids = [json.loads(each)["id"] for each in followed.out.splitlines() if each.startswith('{"id"')]
    assert ids == ["1-0", "2-0", "10-0", "11-0", "12-0"]
    assert followed.status == 1
    assert followed.err.count("Redis does not answer; waiting for it") == 2, "once for each silence"
    assert "there is no such thing" in followed.out
    assert {each["wait_s"] for each in asked if "after" in each} == {"20.0"}
    assert [each["after"] for each in asked if "after" in each][-1] == "12-0"


def test_a_service_that_does_not_come_back_ends_it(cli: Cli, admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    following(admin, monkeypatch, [AWAY] * 9, patience=5)
    ended = cli("decisions", "--follow")
    assert ended.status == 1
    assert "error: Redis does not answer; try again." in ended.err.splitlines()[-2:]


@pytest.mark.parametrize("name", ["all.jsonl", "all.jsonl.gz"])
def test_the_stream_as_a_file_the_oldest_first(cli: Cli, admin: FakeAdmin, tmp_path: Path, name: str) -> None:
    admin.decisions = [estimated(1), came(2, 1, 0.28), decision(3)]
    done = cli("decisions", "--export", name, "--json")
    assert done.json == {
        "path": name, "decisions": 3, "first_unix_s": NOW_UNIX_S + 1, "last_unix_s": NOW_UNIX_S + 3,
    }  # fmt: skip
    raw = (tmp_path / name).read_bytes()
    lines = [json.loads(each) for each in (gzip.decompress(raw) if name.endswith("gz") else raw).splitlines()]
    assert [each["id"] for each in lines] == ["1-0", "2-0", "3-0"]
    assert (lines[0]["key"], lines[1]["of"], lines[0]["outcome"]["took_s"]) == ("k1", "k1", 0.28)
    assert [each.name for each in tmp_path.iterdir() if each.suffix == ".part"] == []


def test_only_what_is_not_older_and_of_one_model(cli: Cli, admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    real = [msgspec.structs.replace(decision(n), id=f"{round((NOW_UNIX_S + n) * 1000)}-0") for n in range(1, 5)]
    admin.decisions = [*real[:3], msgspec.structs.replace(real[3], model_id="other")]
    monkeypatch.setattr("gateway.cli.decision_export.time.time", lambda: NOW_UNIX_S + 4)
    assert cli("decisions", "--export", "f", "--since", "2s").out == "f: 3 decisions\n"
    assert cli("decisions", "--export", "f", "--since", "2s", "--model", "other").out == "f: 1 decisions\n"
    nothing = cli("decisions", "--export", "f", "--model", "nobody")
    assert (nothing.out, nothing.err) == ("f: 0 decisions\n", "Nothing was decided in that time.\n")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--since", "1h"), "--since goes with --export"),
        (("--export", "f", "--follow"), "it does not follow"),
        (("--export", "f", "--since", "soon"), "--since: "),
    ],
)
def test_what_does_not_go_together_is_said(cli: Cli, admin: FakeAdmin, given: tuple[str, ...], said: str) -> None:
    refused = cli("decisions", *given)
    assert refused.status == 2
    assert said in refused.err
    assert "cure: " in refused.err


def test_a_file_that_cannot_be_written_leaves_nothing_behind(cli: Cli, admin: FakeAdmin, tmp_path: Path) -> None:
    refused = cli("decisions", "--export", "nowhere/f.jsonl")
    assert (refused.status, refused.out) == (1, "")
    assert "nowhere/f.jsonl cannot be written: No such file or directory" in refused.err
    assert not list(tmp_path.rglob("*.jsonl*"))


def test_what_is_about_no_model_names_none_and_a_model_without_any_says_so(cli: Cli, admin: FakeAdmin) -> None:
    ordered = {"at_unix_s": 1.0, "action": "node_ordered", "model_id": None, "gpu": None, "evicted_for": None}
    assert line({**ordered, "reason": "n: cordon by operator", "details": {}}).endswith(
        " node_ordered: n: cordon by operator"
    )
    admin.decisions = []
    assert "No decision about gpt-9 is on record." in cli("decisions", "--model", "gpt-9").err
    assert "Nothing has been decided yet." in cli("decisions").err
