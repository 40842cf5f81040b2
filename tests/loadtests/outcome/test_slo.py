"""Goals: read from a file, kept or missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtests.outcome.slo import NO_SLO, Good, Slo, SloError, is_good, judge, kept, read_slo
from loadtests.outcome.summary import group
from tests.loadtests.outcome.made import row

TEXT = """
ttft_ms: {p50: 60, p99: 100}
gap_ms: {p99: 20}
good: {ttft_ms: 80, gap_p99_ms: 30, e2e_ms: 200}
good_share: 0.9
goodput_per_s: 1
"""


def goals(tmp_path: Path, text: str) -> Slo:
    (tmp_path / "slo.yaml").write_text(text)
    return read_slo(tmp_path / "slo.yaml")


def verdict(slo: Slo, *rows: Any, seconds: float = 1.0) -> dict[str, bool]:
    return {check.what: check.kept for check in judge(slo, group(rows, seconds, slo.good))}


def test_goals_that_are_kept(tmp_path: Path) -> None:
    found = verdict(goals(tmp_path, TEXT), *[row()] * 10)
    assert found == {"ttft_ms.p50": True, "ttft_ms.p99": True, "gap_ms.p99": True, "failed_share": True,
                     "good_share": True, "goodput_per_s": True}  # fmt: skip


def test_goals_that_are_missed(tmp_path: Path) -> None:
    slow, failed = row(ttft_ms=150.0, gaps_ms=(40.0,)), row(error="timeout")
    found = verdict(goals(tmp_path, TEXT), *[row()] * 6, slow, slow, failed, seconds=60.0)
    assert found == {"ttft_ms.p50": True, "ttft_ms.p99": False, "gap_ms.p99": False, "failed_share": False,
                     "good_share": False, "goodput_per_s": False}  # fmt: skip


def test_what_nothing_was_measured_of_is_not_kept(tmp_path: Path) -> None:
    checks = judge(goals(tmp_path, "ttft_ms: {p99: 5}"), group([row(ttft_ms=None)], 1.0, Good()))
    assert [(check.measured, check.kept) for check in checks if check.what == "ttft_ms.p99"] == [(None, False)]
    assert not kept(checks)


def test_without_goals_nothing_may_fail() -> None:
    assert verdict(NO_SLO, row()) == {"failed_share": True}
    assert verdict(NO_SLO, row(), row(error="x")) == {"failed_share": False}


@pytest.mark.parametrize(
    ("given", "good"),
    [
        ({}, True),
        ({"ttft_ms": 81.0}, False),
        ({"ttft_ms": None}, False),
        ({"ttft_ms": None, "stream": False}, True),
        ({"gaps_ms": (10.0,) * 99 + (31.0,)}, True),
        ({"gaps_ms": (10.0, 31.0)}, False),
        ({"e2e_ms": 201.0}, False),
        ({"error": "timeout"}, False),
    ],
)
def test_which_requests_are_good(given: dict[str, Any], good: bool) -> None:
    assert is_good(row(**given), Good(ttft_ms=80, gap_p99_ms=30, e2e_ms=200)) is good


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ttft: {p99: 5}", r"there is no goal ttft; did you mean ttft_ms\?"),
        ("ttft_ms: 5", r"\$\.ttft_ms"),
        ("ttft_ms: {p98: 5}", r"ttft_ms\.p98 is none of p50"),
        ("good: {speed: 1}", r"there is no goal good\.speed; there are ttft_ms, gap_p99_ms, e2e_ms"),
        ("speed: 1", "there is no goal speed; there are ttft_ms, gap_ms"),
        ("gap_ms: {p99: soon}", r"gap_ms\.p99 must be a number of milliseconds, not 'soon'"),
        ("failed_share: some", r"\$\.failed_share"),
        ("- a", "names no goal; one is like ttft_ms: {p99: 1000}"),
        ("a: [", "is no YAML: while parsing .* line 1"),
    ],
)
def test_a_wrong_file_names_the_field(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(SloError, match=why):
        goals(tmp_path, text)


def test_a_missing_file_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(SloError, match="cannot be read"):
        read_slo(tmp_path / "none.yaml")
    assert goals(tmp_path, "") == NO_SLO
