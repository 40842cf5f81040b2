"""The comment and the table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadtests.outcome.slo import NO_SLO, Slo
from loadtests.report.analysis import analysed
from loadtests.report.content import Report
from loadtests.report.markdown import comment, safe
from loadtests.report.sheet import COLUMNS, sheet
from loadtests.report.sides import load
from loadtests.report.words import headline
from tests.loadtests.report.made import rows_at, run, saved, saved_pairs


def compared(tmp_path: Path, added_ms: float, slo: Slo = NO_SLO) -> Report:
    rng = np.random.default_rng(0)
    files = [
        saved(tmp_path / name, run(rows_at(rng, 120, added_ms=added))) for name, added in (("a", 0.0), ("b", added_ms))
    ]
    return analysed(load(files), slo)


def test_a_comment_begins_with_what_matters(tmp_path: Path) -> None:
    text = comment(compared(tmp_path, 30.0, Slo(ttft_ms={"p50": 1.0})))
    lines = text.splitlines()
    assert lines[0] == "### steady: a and b"
    assert lines[2].startswith("**1 of 2 goals missed**")
    assert lines[4].startswith("Significant: TTFT mean +")
    assert "| ttft\\_ms.p50 |" in text


def test_a_picture_without_its_page_says_what_its_badges_would(tmp_path: Path) -> None:
    made = run(rows_at(np.random.default_rng(0), 40))
    for simulated, valid, end in (
        (False, True, ""),
        (True, True, ", simulated GPUs"),
        (True, False, ", simulated GPUs, NOT VALID"),
    ):
        made["target"]["simulated"], made["generator"]["valid"] = simulated, valid
        report = analysed(load([saved(tmp_path / f"{simulated}{valid}", made)]), NO_SLO)
        assert headline(report) == f"steady: {report.load}{end}"


def test_chance_is_called_chance(tmp_path: Path) -> None:
    assert "Nothing differs by more than chance. **One run a side**" in comment(compared(tmp_path, 0.0))


def test_of_several_passes_nobody_has_to_be_warned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sides = ([run(rows_at(rng, 60)) for _ in range(2)] for _ in "ab")
    assert "One run a side" not in comment(analysed(load([saved_pairs(tmp_path, *sides)]), NO_SLO))


def test_tables_have_as_many_cells_in_each_row(tmp_path: Path) -> None:
    lines = [line for line in comment(compared(tmp_path, 30.0)).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert set(lines[1].replace("|", "").split()) == {"---", "---:"}


@given(st.text())
def test_no_name_breaks_out_of_its_place(text: str) -> None:
    made = safe(text)
    assert "\n" not in made
    plain = made.replace("\\\\", "")
    for special in "|<[@`":
        assert plain.count(special) == plain.count(f"\\{special}")


def test_the_table_has_a_line_for_each_figure_part_and_goal(tmp_path: Path) -> None:
    report = compared(tmp_path, 30.0)
    rows = list(csv.DictReader(io.StringIO(sheet(report))))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(report.lines) + len(report.parts) + len(report.goals)
    first, line = rows[0], report.lines[0]
    assert line.change is not None
    assert (first["figure"], first["statistic"], first["unit"]) == ("ttft_ms", "mean", "ms")
    assert float(first["change"]) == line.change.value
    assert first["significant"] == "true"
    assert rows[-1]["figure"] == "goal.failed_share"


def test_what_is_not_known_is_an_empty_cell(tmp_path: Path) -> None:
    report = analysed(load([saved(tmp_path / "a", run(rows_at(np.random.default_rng(0), 120)))]), NO_SLO)
    (p99,) = [
        row
        for row in csv.DictReader(io.StringIO(sheet(report)))
        if (row["figure"], row["statistic"]) == ("ttft_ms", "p99")
    ]
    assert (p99["high"], p99["change"], p99["significant"]) == ("", "", "")
