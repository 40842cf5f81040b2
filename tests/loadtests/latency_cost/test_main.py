"""``make latency-cost``: figures that may be believed come into the page, others leave it as it is."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtests.latency_cost import __main__ as module
from loadtests.latency_cost.__main__ import PAGE, main
from loadtests.latency_cost.page import filled
from loadtests.latency_cost.parts import MODEL, PARTS, STARTED
from tests.loadtests.fake_service import ADMIN_KEY, API_KEY, FakeModel, FakeService
from tests.loadtests.latency_cost import made

LEFT: dict[str, Callable[..., Path]] = {
    "steady": made.gateway, "zero": made.tiers, "spike": made.spike, "compare": made.peers,
}  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> Path:
    copy = tmp_path / "page.md"
    copy.write_text(PAGE.read_text())
    for name in PARTS:
        copy.write_text(filled(copy.read_text(), name, []))
    return copy


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_no_service", lambda: None)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))


def leave(monkeypatch: pytest.MonkeyPatch, works: bool = True, **given: Any) -> list[list[str]]:
    """Load tests that leave what they should; what they were asked."""
    asked: list[list[str]] = []

    def loadtest(words: list[str], check: bool, stdout: int) -> subprocess.CompletedProcess[str]:
        assert not check
        asked.append(words[3:])
        if works:
            LEFT[words[3]](Path(words[words.index("--out") + 1]), **given)
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", loadtest)
    monkeypatch.setattr(module, "present", lambda peers: (list(STARTED[:4]), {STARTED[4]: "not installed in /peers"}))
    return asked


def asked_for(page: Path, only: str = "") -> int:
    return main(["--only", only, "--page", str(page), "--out", str(page.parent / "out"), "--peers", "/peers"])


def test_the_page_has_a_table_for_every_part() -> None:
    text = PAGE.read_text()
    for name in PARTS:
        filled(text, name, [])


@pytest.mark.usefixtures("served")
def test_figures_come_into_the_page_in_a_line_and_in_json(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = leave(monkeypatch)
    assert asked_for(page) == 0
    assert [words[0] for words in asked] == ["steady", "zero", "spike", "compare"]
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == list(PARTS)
    assert all(line.endswith("; in page.md") for line in said)
    text = page.read_text()
    for name in PARTS:
        left = json.loads((page.parent / "out" / f"{name}.json").read_text())
        assert left["part"] == name
        assert left["of"]["environment"]["machine"]["cores" if name != "peers" else "load_1m"]
        assert f"{left['note']}\n<!-- end of {name} -->" in text
        assert f"`{left['command']}`" in left["note"]
    assert "| asleep: weights in memory | 1 | 30.0 | 30.0 to 30.0 | 0 |" in text


@pytest.mark.usefixtures("served")
def test_peers_are_looked_for_where_they_were_installed_and_who_is_missing_is_told(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = leave(monkeypatch)
    assert asked_for(page, "peers") == 0
    (words,) = asked
    assert words[words.index("--start") + 1] == ",".join(STARTED[:4])
    assert words[words.index("--peers") + 1] == "/peers"
    assert f"peers: {STARTED[4]} is left out: not installed in /peers" in capsys.readouterr().err
    assert f"| {STARTED[4]} | - |" in page.read_text()


@pytest.mark.usefixtures("served")
def test_where_only_one_can_be_started_nothing_is(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = leave(monkeypatch)
    monkeypatch.setattr(module, "present", lambda peers: (["roundhouse"], dict.fromkeys(STARTED[1:], "not there")))
    assert (asked_for(page, "peers"), asked) == (1, [])
    assert "not two to be compared" in capsys.readouterr().err


@pytest.mark.usefixtures("served")
def test_a_run_that_is_not_valid_leaves_the_page_as_it_is(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = page.read_text()
    leave(monkeypatch, late_ms=90.0)
    assert asked_for(page, "tiers,spike") == 1
    assert page.read_text() == before
    told = capsys.readouterr()
    assert "tiers: the page stays as it is: requests left late" in told.err
    assert told.out == ""


@pytest.mark.usefixtures("served")
def test_what_an_earlier_one_left_is_not_taken_for_this_ones(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(monkeypatch)
    assert asked_for(page, "tiers,spike") == 0
    leave(monkeypatch, works=False)
    assert asked_for(page, "tiers,spike") == 1
    assert capsys.readouterr().err.count("the page stays as it is") == 2


@pytest.mark.usefixtures("served")
def test_a_busy_machine_is_told(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(monkeypatch)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.2, 0.1, 0.1))
    assert asked_for(page, "tiers") == 0
    assert "this machine is busy (load 3.2)" in capsys.readouterr().err
    assert "load before 3.2." in page.read_text()


@pytest.mark.usefixtures("served")
def test_ctrl_c_keeps_the_tables_that_were_filled(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(monkeypatch)
    whole = subprocess.run

    def ended(words: list[str], **given: Any) -> Any:
        if words[3] == "spike":
            raise KeyboardInterrupt
        return whole(words, **given)

    monkeypatch.setattr(subprocess, "run", ended)
    assert asked_for(page, "tiers,spike,gateway") == 1
    assert "asleep: weights in memory" in page.read_text()
    assert "| TTFT p50 |" not in page.read_text()


def test_the_service_is_looked_for_before_anything_is_measured(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = leave(monkeypatch)
    for name in ("ROUNDHOUSE_URL", "ROUNDHOUSE_API_KEY", "ROUNDHOUSE_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(tmp_path))
    assert asked_for(page, "tiers") == 1
    assert "no service is running" in capsys.readouterr().err
    for models, admin_key, said in (
        ({"other": FakeModel()}, ADMIN_KEY, f"does not serve {MODEL}"),
        ({MODEL: FakeModel()}, "", "set ROUNDHOUSE_ADMIN_KEY"),
    ):
        with FakeService(models).running() as service:
            monkeypatch.setenv("ROUNDHOUSE_URL", service.target.url)
            monkeypatch.setenv("ROUNDHOUSE_API_KEY", API_KEY)
            monkeypatch.setenv("ROUNDHOUSE_ADMIN_KEY", admin_key)
            assert asked_for(page, "tiers") == 1
        assert said in capsys.readouterr().err
    assert asked == []
    assert asked_for(page, "peers") == 0, "they are started here"


def test_a_part_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "moon"])
    assert ended.value.code == 2
    assert "no part moon; there are gateway, tiers, spike, peers" in capsys.readouterr().err
