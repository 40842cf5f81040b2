"""From runs to the report's figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from loadtests.load.plan import Phase
from loadtests.outcome.slo import NO_SLO, Slo
from loadtests.report import words
from loadtests.report.analysis import analysed
from loadtests.report.content import Report, Span, document
from loadtests.report.sides import load
from tests.loadtests.report.made import answered, plan_of, rows_at, run, saved, saved_pairs


def cost(tmp_path: Path, added_ms: float, passes: int = 5, slo: Slo = NO_SLO, **target: Any) -> Report:
    rng = np.random.default_rng(4)
    direct, through = [], []
    for _ in range(passes):
        rows = rows_at(rng, 120, through=False)
        direct.append(run(rows))
        through.append(
            run([answered(row.begun_us / 1e3, row.ttft_us / 1e3 + added_ms + rng.normal(0, 0.05), through=True)  # type: ignore[operator]
                 for row in rows], **target)
        )  # fmt: skip
    return analysed(load([saved_pairs(tmp_path, direct, through)]), slo)


def test_what_the_gateway_adds_is_measured_and_told_from_chance(tmp_path: Path) -> None:
    report = cost(tmp_path, 2.0)
    line = report.line("ttft_ms.p50")
    assert line is not None
    assert line.change is not None
    assert line.change.value == pytest.approx(2.0, abs=0.1)
    assert line.significant
    assert len(line.passes) == 5
    assert words.finding(line).startswith("+2.")
    failed = report.line("failed.mean")
    assert failed is not None
    assert not failed.significant


def test_nothing_added_is_nothing_found(tmp_path: Path) -> None:
    assert not any(line.significant for line in cost(tmp_path, 0.0).lines)


def test_one_pair_is_compared_request_by_request(tmp_path: Path) -> None:
    report = cost(tmp_path, 2.0, passes=1)
    line = report.line("ttft_ms.mean")
    assert line is not None
    assert line.significant
    assert (report.paired, report.pairs) == (True, 120)
    assert any("One run a side" in note for note in report.notes)


def test_where_the_time_goes_adds_up_and_stands_beside_the_engine_alone(tmp_path: Path) -> None:
    report = cost(tmp_path, 2.0)
    mean = report.line("ttft_ms.mean")
    assert mean is not None
    assert sum(part.mean_ms.value or 0.0 for part in report.parts) == pytest.approx(mean.second.value, abs=1e-3)
    assert sum(part.share for part in report.parts) == pytest.approx(1.0, abs=1e-3)
    typical = report.waterfalls[0]
    assert typical.direct_ms == pytest.approx(sum(typical.parts_ms.values()) - 2.0, abs=0.3)


def test_goals_are_the_services_and_what_it_adds(tmp_path: Path) -> None:
    slo = Slo(ttft_ms={"p50": 1.0}, added_ttft_ms={"p50": 3.0, "p90": 0.5})
    report = cost(tmp_path, 2.0, slo=slo)
    kept = {goal.what: goal.kept for goal in report.goals}
    assert kept == {"ttft_ms.p50": False, "failed_share": True, "added_ttft_ms.p50": True, "added_ttft_ms.p90": False}
    assert not report.kept


def two(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> Report:
    return analysed(load([saved(tmp_path / "a", first), saved(tmp_path / "b", second)]), NO_SLO)


def test_runs_of_one_plan_are_paired(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rows_at(rng, 100)
    slower = [answered(row.begun_us / 1e3, row.ttft_us / 1e3 + 1.0, through=True) for row in rows]  # type: ignore[operator]
    report = two(tmp_path, run(rows), run(slower))
    line = report.line("ttft_ms.mean")
    assert line is not None
    assert report.paired
    assert line.significant  # a millisecond, where requests differ by tens


def test_runs_of_other_plans_are_not_and_say_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    report = two(tmp_path, run(rows_at(rng, 100)), run(rows_at(rng, 90)))
    assert not report.paired
    assert any("Different plans" in note for note in report.notes)
    assert not any(line.significant for line in report.lines)


def test_users_are_not_paired_even_where_the_plan_is_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [
        run(rows_at(rng, 60, closed=True), plan=plan_of(60, closed=True, phases=[Phase("all", 0, 3, users=4)]))
        for _ in "ab"
    ]
    report = two(tmp_path, runs[0], runs[1])
    assert (report.paired, report.pairs) == (False, 0)
    assert any("Users who wait" in note for note in report.notes)
    assert "closed load, 4 users" in report.load


def test_a_single_run_has_its_figures_and_intervals(tmp_path: Path) -> None:
    rows = rows_at(np.random.default_rng(0), 400)
    report = analysed(load([saved(tmp_path / "a", run(rows, slo=Slo(ttft_ms={"p99": 1000.0})))]), NO_SLO)
    for name in ("p50", "p90", "p99"):
        line = report.line(f"ttft_ms.{name}")
        assert line is not None
        assert line.change is None
        assert line.second.low is not None
        assert line.second.value is not None
        assert line.second.low < line.second.value


def test_a_p99_of_few_is_left_out_and_one_that_has_no_end_is_said_to_have_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    few, more = (analysed(load([saved(tmp_path / str(n), run(rows_at(rng, n)))]), NO_SLO) for n in (60, 150))
    assert few.line("ttft_ms.p99") is None
    assert any("TTFT p99" in note and "left out" in note for note in few.notes)
    line = more.line("ttft_ms.p99")
    assert line is not None
    assert line.second.high is None
    assert any("too few requests" in note for note in more.notes)


def test_a_run_in_which_everything_failed_is_a_report_too(tmp_path: Path) -> None:
    rows = rows_at(np.random.default_rng(0), 30)
    for one in rows:
        one.error, one.first_token_us, one.first_byte_us = "connect_failed", None, None
    report = analysed(load([saved(tmp_path / "a", run(rows))]), NO_SLO)
    assert [line.key for line in report.lines] == ["failed.mean"]
    assert not report.kept
    assert report.waterfalls == []
    assert report.sides[0].errors[0]["code"] == "connect_failed"


def test_a_run_that_is_not_valid_says_so(tmp_path: Path) -> None:
    rows = rows_at(np.random.default_rng(0), 50, late_ms=80.0)
    report = analysed(load([saved(tmp_path / "a", run(rows))]), NO_SLO)
    assert not report.valid
    assert report.notes[0].startswith("Not valid")
    assert "left late" in report.sides[0].reasons[0]


def test_simulated_gpus_are_said_to_be(tmp_path: Path) -> None:
    assert cost(tmp_path, 1.0, passes=2, simulated=True).simulated


def test_its_json_is_json_and_says_the_same_again(tmp_path: Path) -> None:
    made = document(cost(tmp_path / "a", 1.0, passes=2))
    text = msgspec.json.encode(made)
    assert msgspec.json.decode(text)["verdict"] == {"kept": True, "valid": True}
    assert msgspec.json.encode(document(cost(tmp_path / "b", 1.0, passes=2))) == text


@pytest.mark.parametrize(
    ("value", "said"), [(0.0042, "0.004"), (-3.14159, "−3.14"), (42.42, "42.4"), (1234.5, "1,234"), (None, "–")]
)
def test_numbers_have_as_many_digits_as_tell_something(value: float | None, said: str) -> None:
    assert words.number(value) == said


def test_intervals_say_which_end_they_lack() -> None:
    assert words.interval(Span(2.0, 1.0, 3.0)) == "1.00 to 3.00"
    assert words.interval(Span(2.0, 1.0, None)) == "from 1.00"
    assert words.interval(Span(2.0, None, 3.0), sign=True) == "up to +3.00"
    assert (words.interval(Span(2.0)), words.interval(Span(None))) == ("unbounded", "")


def test_chances_and_shares() -> None:
    assert [words.chance(p) for p in (None, 0.0004, 0.012, 0.5)] == ["–", "< 0.001", "0.012", "0.50"]
    assert [words.percent(share, True) for share in (0.001, -0.25, 2.0)] == ["+0.10%", "−25.0%", "+200%"]


def test_what_a_busy_generator_measured_is_never_significant(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    report = two(tmp_path, run(rows_at(rng, 100)), run(rows_at(rng, 100, added_ms=50.0, late_ms=90.0)))
    line = report.line("ttft_ms.p50")
    assert line is not None
    assert line.p is not None
    assert line.p < 0.05
    assert not line.significant
    assert words.finding(line).endswith("not judged")
    assert any("Nothing is called significant" in note for note in report.notes)


def test_passes_that_do_not_count_are_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = saved_pairs(tmp_path, *([run(rows_at(rng, 40)) for _ in range(2)] for _ in range(2)))
    pairs = msgspec.json.decode((folder / "pairs.json").read_bytes())
    (folder / "pairs.json").write_bytes(msgspec.json.encode(pairs | {"left_out": [3]}))
    assert any("do not count" in note and note.endswith(": 1.") for note in analysed(load([folder]), NO_SLO).notes)


def test_passes_of_users_belong_together_but_not_their_requests(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plan = plan_of(40, closed=True, phases=[Phase("all", 0, 2, users=4)])
    sides = ([run(rows_at(rng, 40, closed=True), plan=plan) for _ in range(2)] for _ in range(2))
    report = analysed(load([saved_pairs(tmp_path, *sides)]), NO_SLO)
    assert (report.paired, report.pairs) == (True, 0)
    line = report.line("ttft_ms.p50")
    assert line is not None
    assert len(line.passes) == 2


def test_requests_without_a_counterpart_are_told(tmp_path: Path) -> None:
    rows = rows_at(np.random.default_rng(0), 60)
    plan = plan_of(60)
    report = two(tmp_path, run(rows, plan=plan), run(rows[:50], plan=plan))
    assert report.pairs == 50
    (note,) = [note for note in report.notes if "no counterpart" in note]
    assert note.startswith("10 of 60 requests (a)")


def test_no_failure_seen_is_not_no_failure_possible(tmp_path: Path) -> None:
    report = analysed(load([saved(tmp_path / "a", run(rows_at(np.random.default_rng(0), 150)))]), NO_SLO)
    line = report.line("failed.mean")
    assert line is not None
    assert (line.second.value, line.second.low) == (0.0, 0.0)
    assert line.second.high == pytest.approx(0.025, abs=0.001)


def test_goals_of_several_passes_are_for_all_of_their_requests(tmp_path: Path) -> None:
    report = cost(tmp_path, 2.0, passes=2, slo=Slo(ttft_ms={"p50": 100.0}))
    assert any("all requests of all passes" in note for note in report.notes)
