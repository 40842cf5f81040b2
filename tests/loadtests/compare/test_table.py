"""One table, on the terminal and as Markdown."""

from __future__ import annotations

from typing import Any

from loadtests.compare.outcome import outcome
from loadtests.compare.table import TITLES, cells, markdown, text
from loadtests.outcome.slo import Slo
from tests.loadtests.compare.made import run


def made(**missing: str) -> dict[str, Any]:
    runs = {"roundhouse": [run([10, 20]), run([12, 14])], "vllm": [run([0.5, 250], never_sent=1)]}
    return outcome(runs, missing, 2, Slo(ttft_ms={"p99": 100}))


def test_a_row_has_the_figures_of_its_target() -> None:
    ours, theirs = cells(made(vllm="it ended"))
    assert dict(zip(TITLES, ours, strict=True)) == {
        "target": "roundhouse",
        "TTFT p50 ms": "12.0",
        "TTFT p99 ms": "20.0",
        "by pass": "10.0..12.0",
        "ITL p50 ms": "10.0",
        "ITL p99 ms": "10.0",
        "E2E p50 ms": "62.0",
        "E2E p99 ms": "70.0",
        "tokens/s": "1",
        "failed": "0 of 4",
        "valid": "yes",
    }
    assert theirs[1:3] == ["0.50", "250"]
    assert theirs[-1] == "1 of 2 passes"


def test_who_was_not_measured_has_a_row_too() -> None:
    *_, last = cells(made(litellm="no folder of peers named"))
    assert (last[0], last[1], last[-1]) == ("litellm", "-", "not measured")


def test_the_terminals_columns_stand_below_each_other() -> None:
    heading, titles, *rest = text(made(litellm="not there\nat all"))
    assert heading.startswith("steady: 2 requests/s, 10 s, 2 passes each, m; plan ")
    ends = [titles.index(title) + len(title) for title in TITLES[1:3]]
    assert [rest[0][:end].split()[-1] for end in ends] == ["12.0", "20.0"]
    assert [rest[1][:end].split()[-1] for end in ends] == ["0.50", "250"]
    assert "  vllm: NOT VALID: 1 of 3 planned requests were never sent" in rest
    assert "  vllm: missed: ttft_ms.p99 is 250, the goal 100" in rest
    assert "  litellm: left out: not there\nat all" in rest


def test_markdown_has_a_line_for_each_and_for_what_happened() -> None:
    lines = markdown(made(litellm="a | b\nnext line")).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 3
    assert {line.replace("\\|", "").count("|") for line in table} == {len(TITLES) + 1}
    assert "- litellm: left out: a \\| b next line" in lines


def test_errors_are_told_by_code() -> None:
    failing = outcome({"vllm": [run([10], error="timeout", message="no byte for 120 s")]}, {}, 1, Slo())
    assert "  vllm: 1 x timeout: no byte for 120 s" in list(text(failing))
    assert cells(failing)[0][1:5] == ["-", "-", "-", "-"]


def test_what_few_requests_and_one_pass_cannot_tell_is_told() -> None:
    one = outcome({"vllm": [run([10] * 9)]}, {}, 1, Slo())
    lines = list(text(one))
    assert ", 1 pass each, " in lines[0]
    assert "  p99 of 9 requests is the slowest of them" in lines
    assert any("--passes 3" in line for line in lines)
    several = list(text(outcome({"vllm": [run([10] * 60), run([10] * 60)]}, {}, 2, Slo())))
    assert not any("slowest" in line or "--passes 3" in line for line in several)


def test_what_was_run_again_is_told() -> None:
    both = [run([10]), {**run([11]), "again": True}]
    found = outcome({"vllm": both}, {}, 2, Slo())
    assert "  vllm: run again, since it was not valid: 1 of 2 passes" in list(text(found))


def test_plans_that_differ_are_told_in_the_heading() -> None:
    both = outcome({"a": [run([10])], "b": [run([10], asked=2)]}, {}, 1, Slo())
    assert "plan NOT ONE BUT 2" in next(text(both))


def test_nothing_measured_is_said() -> None:
    nothing = outcome({}, {"vllm": "it is not there"}, 1, Slo())
    assert next(text(nothing)) == "nothing could be measured"
    assert markdown(nothing).startswith("nothing could be measured\n")
    assert "- vllm: left out: it is not there" in markdown(nothing)
