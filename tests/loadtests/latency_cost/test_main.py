"""``make latency-cost``: figures that may be believed come into the page, others leave it as it is."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loadtests.compare.options import parse as parse_compare
from loadtests.latency_cost.__main__ import PAGE, PARTS, main
from loadtests.latency_cost.page import filled
from loadtests.options import parse
from tests.loadtests.compare.made import run


@pytest.fixture
def page(tmp_path: Path) -> Path:
    copy = tmp_path / "page.md"
    copy.write_text(PAGE.read_text())
    return copy


def leave(monkeypatch: pytest.MonkeyPatch, document: dict[str, Any] | None) -> list[list[str]]:
    """Load tests that leave this; what they were asked."""
    asked: list[list[str]] = []

    def loadtest(words: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        assert not check
        asked.append(words[3:])
        out = Path(words[words.index("--out") + 1])
        if document is not None:
            for part in PARTS.values():
                (out / part.file).write_text(json.dumps(document))
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", loadtest)
    return asked


def test_the_page_has_a_table_for_every_part_and_names_its_command() -> None:
    text = PAGE.read_text()
    for name in PARTS:
        filled(text, name, [])
        assert f"`make latency-cost ONLY={name}" in text


def test_every_part_is_a_load_test_that_there_is() -> None:
    for name, part in PARTS.items():
        if name == "peers":
            assert len(parse_compare(part.words[1:]).start) == 5
        else:
            assert parse(part.words).suite == part.words[0]


def test_figures_come_into_the_page(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = leave(monkeypatch, run([10, 20]))
    assert main(["--only", "spike", "--page", str(page)]) == 0
    assert "| steady, 2 a second | 2 | 10.0 | 20.0 | 0 failed |\n<!-- end of spike -->" in page.read_text()
    assert [words[0] for words in asked] == ["spike"]


def test_a_run_that_is_not_valid_leaves_the_page_as_it_is(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = page.read_text()
    leave(monkeypatch, run([10, 20], never_sent=1))
    assert main(["--only", "spike", "--page", str(page)]) == 1
    assert page.read_text() == before
    assert "spike: the page stays as it is: 1 of 3 planned requests were never sent" in capsys.readouterr().err


def test_no_figures_are_told(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    leave(monkeypatch, None)
    assert main(["--only", "tiers,spike", "--page", str(page)]) == 1
    assert capsys.readouterr().err.count("it left no figures") == 2


def test_peers_are_looked_for_where_they_were_installed(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = leave(monkeypatch, None)
    main(["--only", "peers,tiers", "--peers", "/peers", "--page", str(page)])
    assert asked[0][-2:] == ["--peers", "/peers"]
    assert "--peers" not in asked[1]


def test_a_part_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--only", "moon"])
    assert ended.value.code == 2
    assert "no part moon; there are gateway, tiers, spike, peers" in capsys.readouterr().err
