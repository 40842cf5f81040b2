"""Journals: what was written whole is read back, what was torn is not, and of two results of a line one is used."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batches.journal import Journal, read_all, remove, results
from gateway.batches.lines import Line
from gateway.batches.results import EXPIRED, Result, of_answer, of_failure
from tests.gateway.batches.bench import Spoken

LINE = Line(5, "five", "m", b"{}")


def result(number: int, text: str = "x", ok: bool = True) -> Result:
    return Result(n=number, ok=ok, text=msgspec.Raw(msgspec.json.encode({"n": number, "text": text})))


def test_what_one_process_wrote_the_next_one_knows(tmp_path: Path) -> None:
    first = Journal(tmp_path / "b", "one")
    first.append(result(3))
    first.append(result(1, ok=False))
    second = Journal(tmp_path / "b", "two")
    assert 3 in second.finished
    assert 2 not in second.finished
    second.append(result(2))
    done = read_all(tmp_path / "b")
    assert (done.completed, done.failed) == ({2, 3}, {1})
    assert list(results(done, done.completed)) == [b'{"n":2,"text":"x"}\n', b'{"n":3,"text":"x"}\n']
    first.close()
    second.close()
    remove(tmp_path / "b")
    assert not (tmp_path / "b").exists()


@given(cut=st.integers(min_value=0, max_value=200))
def test_a_torn_end_counts_for_nothing(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    whole = Journal(folder, "one")
    lines = []
    for number in range(4):
        before = os.path.getsize(folder / "one.journal")
        whole.append(result(number, "text with \u2028 and \u00e9"))
        lines.append((before, os.path.getsize(folder / "one.journal")))
    whole.close()
    cut = cut % (lines[-1][1] + 1)
    os.truncate(folder / "one.journal", cut)
    assert read_all(folder).completed == {number for number, (_, end) in enumerate(lines) if end <= cut}


def test_writes_that_go_out_in_pieces(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "one", lambda fd, data: os.write(fd, data[:7]))
    journal.append(result(1, "long" * 50))
    journal.append(result(2))
    journal.close()
    assert read_all(tmp_path).completed == {1, 2}
    assert len(list(results(journal.finished, {1, 2}))) == 2


def test_two_results_of_a_line_are_one(tmp_path: Path) -> None:
    one, other = Journal(tmp_path, "a"), Journal(tmp_path, "b")
    other.append(result(1, "other", ok=False))
    one.append(result(1, "one"))
    one.close()
    other.close()
    done = read_all(tmp_path)
    assert (done.completed, done.failed) == ({1}, set())
    assert list(results(done, {1})) == [b'{"n":1,"text":"one"}\n']


def test_no_process_writes_into_anothers_journal(tmp_path: Path) -> None:
    Journal(tmp_path, "one").close()
    with pytest.raises(FileExistsError):
        Journal(tmp_path, "one")


def test_answers_are_one_line_each_whatever_an_engine_writes() -> None:
    pretty = of_answer("batch_1", LINE, Spoken(200, b'{\n  "a": [1,\n 2.50]\n}'))
    assert b'"body":{"a":[1,2.50]}' in bytes(pretty.text), "numbers stay as they were written"
    for body in (b"no json\n", b'{"a": "\xff"}', b"", b"{} {}"):
        text = bytes(of_answer("batch_1", LINE, Spoken(500, body)).text)
        assert b"\n" not in text
        decoded = msgspec.json.decode(text)
        assert decoded["response"]["body"] == body.decode("utf-8", "replace")


def test_ids_are_the_same_every_time_and_of_no_other_line() -> None:
    ids = [
        msgspec.json.decode(of_failure(batch, number, "x", EXPIRED).text)["id"]
        for batch in ("batch_1", "batch_2")
        for number in (1, 2)
    ]
    again = msgspec.json.decode(of_answer("batch_1", Line(1, "x", "m", b""), Spoken(200, b"{}")).text)["id"]
    assert len(set(ids)) == 4
    assert again == ids[0]
