"""What a report is made of: a run, passes of two sides, or two of either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadtests.outcome.document import DocumentError
from loadtests.report.passes import PairsError, read_pairs
from loadtests.report.sides import COMPARISON, COST, DIRECT_NAME, RUN, THROUGH_NAME, Pass, load, matched, values
from tests.loadtests.outcome.made import row
from tests.loadtests.report.made import answered, plan_of, rows_at, run, saved, saved_pairs

RNG = np.random.default_rng(0)


def test_a_file_or_its_folder_is_a_run(tmp_path: Path) -> None:
    file = saved(tmp_path / "calm", run(rows_at(RNG, 20)))
    for named in (file, file.parent):
        subject = load([named])
        assert (subject.kind, subject.sides[0].name, len(subject.shown.rows)) == (RUN, "calm", 20)


def test_a_folder_of_passes_is_what_the_gateway_costs(tmp_path: Path) -> None:
    sides = ([run(rows_at(RNG, 20)) for _ in range(2)] for _ in range(2))
    saved_pairs(tmp_path, *sides)
    for named in (tmp_path, tmp_path / "pairs.json"):
        subject = load([named])
        assert (subject.kind, [side.name for side in subject.sides]) == (COST, [DIRECT_NAME, THROUGH_NAME])
        assert [len(side.passes) for side in subject.sides] == [2, 2]
        assert subject.argv == ("steady", "--direct")


def test_two_are_compared_and_of_passes_those_through_the_service(tmp_path: Path) -> None:
    file = saved(tmp_path / "before", run(rows_at(RNG, 20)))
    folder = saved_pairs(tmp_path / "after", *([run(rows_at(RNG, 20))] * 2 for _ in range(2)))
    subject = load([file, folder])
    assert (subject.kind, [side.name for side in subject.sides]) == (COMPARISON, ["before", "after"])
    assert [len(side.passes) for side in subject.sides] == [1, 2]


def test_two_of_one_name_are_told_apart(tmp_path: Path) -> None:
    files = [saved(tmp_path / day / "steady", run(rows_at(RNG, 5))) for day in ("monday", "tuesday")]
    assert [side.name for side in load(files).sides] == ["steady (A)", "steady (B)"]


def test_passes_that_did_not_ask_the_same_are_none(tmp_path: Path) -> None:
    saved_pairs(tmp_path, [run(rows_at(RNG, 20))], [run(rows_at(RNG, 20), plan=plan_of(21))])
    with pytest.raises(PairsError, match="did not ask the same"):
        load([tmp_path])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ('{"direct":[],"through":[]}', "0 direct runs"),
        ('{"direct":["a"],"through":[]}', "1 direct"),
        ('{"direct":["a"],"through":["b"],"version":9}', "of version 9, which this version cannot read"),
        ('{"direct":["a"],"through":["b"],"format":"other"}', "no list of passes .*, but 'other'"),
    ],
)
def test_a_list_of_passes_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "pairs.json").write_text(text)
    with pytest.raises(PairsError, match=said):
        read_pairs(tmp_path)


def test_a_file_that_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DocumentError, match="no run of a load test"):
        load([tmp_path / "x.json"])


def test_a_cure_is_named_for_what_is_not_there_or_not_a_run(tmp_path: Path) -> None:
    for name, said in (
        ("gone/run.json", "a load test leaves run.json in its --out"),
        ("gone.json", "name a run's file or folder"),
    ):
        with pytest.raises(DocumentError, match=f"{name} is not there: {said}"):
            load([tmp_path / name])
    for name, said in (("report.json", "name run.json beside it"), ("comparison.json", "runs are in the folders")):
        (tmp_path / name).write_text("{}")
        with pytest.raises(DocumentError, match=said):
            load([tmp_path / name])


def test_a_run_that_was_cut_is_no_run(tmp_path: Path) -> None:
    whole = run(rows_at(np.random.default_rng(0), 5))
    file = saved(tmp_path, whole)
    file.write_bytes(file.read_bytes()[:-90])
    with pytest.raises(DocumentError, match=r"run\.json cannot be read"):
        load([file])
    saved(tmp_path, {name: value for name, value in whole.items() if name not in ("requests", "phases")})
    with pytest.raises(DocumentError, match="a run without phases, requests: it was changed, or cut; run it again"):
        load([file])
    saved(tmp_path, whole | {"requests": {"count": 5}})
    with pytest.raises(DocumentError, match=r"its requests cannot be read .*; run it again"):
        load([file])
    saved(tmp_path, whole | {"version": 7})
    with pytest.raises(DocumentError, match="of version 7, which this version cannot read"):
        load([file])


def made(*rows: object) -> Pass:
    return Pass({}, list(rows))  # type: ignore[arg-type]


def test_what_was_asked_at_one_time_is_a_pair_whatever_became_of_it() -> None:
    one = made(answered(0.0, 5.0), answered(50.0, 6.0), answered(100.0, 7.0))
    other = made(answered(0.002, 9.0), row(50.0, error="timeout"), answered(100.0, 8.0))
    first, second = matched(one, other)
    assert [len(side.rows) for side in (first, second)] == [3, 3]
    assert (second.ttft, second.failed) == ([[9.0], [], [8.0]], [[0.0], [1.0], [0.0]])


def test_what_one_side_never_asked_has_no_pair_and_shifts_none() -> None:
    one = made(*(answered(50.0 * place, 5.0) for place in (0, 1, 2, 4)))
    other = made(*(answered(50.0 * place, 5.0) for place in (1, 2, 3, 4)))
    first, second = matched(one, other)
    assert [row.begun_us for row in first.rows] == [row.begun_us for row in second.rows] == [50_000, 100_000, 200_000]


def test_of_what_was_asked_at_one_moment_each_kind_has_its_own_counterpart() -> None:
    """Times of traces are often whole seconds; who is answered first comes first in a run."""
    one = made(answered(0.0, 5.0, model="a"), answered(0.0, 6.0, model="b"), answered(0.0, 7.0, model="a"))
    other = made(answered(0.0, 8.0, model="b"), answered(0.0, 9.0, model="a"), answered(0.0, 9.5, model="a"))
    first, second = matched(one, other)
    assert [row.model for row in first.rows] == [row.model for row in second.rows] == ["a", "b", "a"]
    assert second.ttft == [[9.0], [8.0], [9.5]]


def test_other_shapes_and_later_turns_are_no_pairs() -> None:
    one = made(answered(0.0, 5.0, model="a"), answered(50.0, 5.0, turn=2), answered(100.0, 5.0))
    other = made(answered(0.0, 5.0, model="b"), answered(50.0, 5.0, turn=2), answered(100.0, 5.0))
    assert [len(side.rows) for side in matched(one, other)] == [1, 1]


def test_latencies_are_of_what_was_answered() -> None:
    both = made(answered(0.0, 5.0), row(50.0, error="x"))
    assert (both.ttft, both.e2e) == ([[5.0], []], [[25.0], []])
    assert values(both, "failed").statistics(["mean"]).tolist() == [0.5]
    assert np.isnan(both.series()).tolist() == [False, True]
