"""``roundhouse record`` writes what the service decides, ``roundhouse replay`` decides it again."""

from __future__ import annotations

import gzip
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.cli.client import AdminClient
from gateway.cli.record import ASK_EVERY_S, Written, follow
from models.control.recording import Arrivals, Header, Step, encode_line, read_lines
from packers.types import Plan
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import KEY, FakeAdmin
from tests.gateway.test_http_packing import step

STEP = encode_line(step())
ARRIVALS = encode_line(Arrivals(at_s=1000.5, model="n", count=2))
HEADER = encode_line(Header(roundhouse="1.0", at_unix_s=999.0))


def test_a_recording_holds_a_header_and_every_line(cli: Cli, admin: FakeAdmin, tmp_path: Path) -> None:
    admin.pages = [[(1, STEP), (2, ARRIVALS)], [(3, STEP)]]
    done = cli("record", "--out", "run.jsonl", "--duration", "200ms", "--json")
    assert done.status == 0
    assert {name: done.json[name] for name in ("decisions", "arrivals", "missed_lines")} == {
        "decisions": 2, "arrivals": 1, "missed_lines": 0,
    }  # fmt: skip
    header, *lines = (tmp_path / "run.jsonl").read_text().splitlines()
    assert lines == [STEP, ARRIVALS, STEP]
    (read,) = read_lines([header], "run.jsonl")
    assert isinstance(read, Header)
    assert read.simulated
    assert "POST /admin/v1/recording" in admin.asked


def test_it_is_compressed_when_its_name_says_so(cli: Cli, admin: FakeAdmin, tmp_path: Path) -> None:
    admin.pages = [[(1, STEP)]]
    assert cli("record", "--out", "run.jsonl.gz", "--duration", "0.1").status == 0
    with gzip.open(tmp_path / "run.jsonl.gz", "rt") as file:
        assert len(list(read_lines(file, "x"))) == 2
    replayed = cli("replay", "run.jsonl.gz")
    assert (replayed.status, replayed.out) == (0, "run.jsonl.gz: 1 decisions, all identical\n")


def test_lines_that_are_missing_are_counted_and_said(cli: Cli, admin: FakeAdmin) -> None:
    admin.pages = [[(4, STEP)], [(9, STEP)]]
    done = cli("record", "--out", "run.jsonl", "--duration", "0.1")
    assert "4 lines came faster than they could be read" in done.err


def test_a_file_that_is_there_is_not_written_over(cli: Cli, admin: FakeAdmin, tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text("precious")
    refused = cli("record", "--out", "run.jsonl", "--duration", "0.1")
    assert refused.status == 2
    assert (tmp_path / "run.jsonl").read_text() == "precious"
    assert cli("record", "--out", "run.jsonl", "--duration", "0.1", "--force").status == 0


@pytest.mark.parametrize("duration", ["soon", "0", "-1"])
def test_a_duration_that_is_none(cli: Cli, admin: FakeAdmin, duration: str) -> None:
    refused = cli("record", "--out", "x", "--duration", duration)
    assert (refused.status, admin.asked) == (2, [])
    assert "--duration" in refused.err


def test_a_place_where_nothing_can_be_written(cli: Cli, admin: FakeAdmin) -> None:
    refused = cli("record", "--out", "no/such/folder/run.jsonl", "--duration", "0.1")
    assert refused.status == 1
    assert "cannot be written" in refused.err


def test_the_service_is_asked_again_while_the_recording_goes_on(admin: FakeAdmin) -> None:
    """So that one whose reader has gone ends by itself."""
    left = itertools.chain(
        [ASK_EVERY_S * 2.5 - seconds for seconds in range(int(ASK_EVERY_S * 2.5) + 1)], itertools.repeat(0.0)
    )
    list(follow(AdminClient(admin.url, KEY), lambda: next(left), lambda _: None, Written()))
    assert admin.asked.count("POST /admin/v1/recording") == 3


def test_identical_decisions_are_said_so(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text("\n".join([HEADER, STEP, ARRIVALS, STEP]) + "\n")
    assert cli("replay", "run.jsonl", "--json").json == {
        "path": "run.jsonl", "identical": True, "decisions": 2, "difference": None,
    }  # fmt: skip


def test_the_first_difference_ends_with_1(cli: Cli, tmp_path: Path) -> None:
    calm, odd = step(), replace(step().plan, memories=())
    wrong = Step(snapshot=calm.snapshot, policies=calm.policies, plan=Plan(odd.snapshot_id, (_sleep(),)))
    (tmp_path / "run.jsonl").write_text("\n".join([HEADER, STEP, encode_line(wrong), STEP]) + "\n")
    said = cli("replay", "run.jsonl")
    assert said.status == 1
    assert said.out.splitlines()[0] == "run.jsonl: decision 1 (snapshot 12) comes out differently"
    assert "made up" in said.out
    found = cli("replay", "run.jsonl", "--json")
    assert found.status == 1
    assert (found.json["identical"], found.json["difference"]["decision"], found.json["decisions"]) == (False, 1, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "run.jsonl: is empty"),
        (HEADER + "\n", "run.jsonl: holds no decision"),
        (HEADER + "\n{}\n", "run.jsonl, line 2: is no line of a recording"),
        (HEADER + "\n" + STEP.replace('"memory_bytes":100', '"memory_bytes":"x"'), "line 2: Expected `int`, got `str`"),
    ],
)
def test_what_is_no_recording(cli: Cli, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "run.jsonl").write_text(text)
    refused = cli("replay", "run.jsonl")
    assert refused.status == 2
    assert said in refused.err


def test_files_that_cannot_be_read(cli: Cli, tmp_path: Path) -> None:
    assert "cannot be read: No such file" in cli("replay", "gone.jsonl").err
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress((HEADER + "\n").encode() * 5000)[:-200])
    refused = cli("replay", "cut.jsonl.gz")
    assert refused.status == 2
    assert "cut.jsonl.gz" in refused.err
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    assert "line 1 is no text" in cli("replay", "binary.jsonl").err


def _sleep():
    from packers.types import GpuId, ModelId, ReplicaId, Sleep

    return Sleep(ReplicaId("n-1"), ModelId("n"), GpuId("node/0"), "made up")
