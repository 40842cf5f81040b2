"""Logs read while others write them: the newest lines of all together, and what comes next, through turn-overs."""

from __future__ import annotations

import os
import time

import pytest

from models.runtimes.host import log_reader
from models.runtimes.host.engine_log import LogHead
from models.runtimes.host.log_reader import Follower, Source, engine_logs, last_lines


def stamp(at_s):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s)) + ",000"


def head(replica, started_s=1000.0, model="m"):
    return LogHead(replica_id=replica, model_id=model, runtime="vllm", pid=7, started_unix_s=started_s).line().decode()


def write(path, text, mode="a"):
    path.parent.mkdir(exist_ok=True)
    with path.open(mode) as file:
        file.write(text)


@pytest.fixture
def logs(tmp_path):
    """Two replicas of m, one of another model, and a file that is no engine's."""
    write(tmp_path / "m-2.log", head("m-2", 2000.0) + f"{stamp(2001)} two\n{stamp(2003)} two again\n")
    write(tmp_path / "m-1.log", head("m-1") + f"{stamp(1001)} one\n{stamp(2002)} one, late\n  on two lines\n")
    write(tmp_path / "other.log", head("o-1", model="o") + "other\n")
    write(tmp_path / "x.log", "no head\n")
    return tmp_path


def texts(lines):
    return [line.text.split(" ", 2)[-1] for line in lines]


def test_a_models_logs_are_found_by_their_heads(logs):
    assert [source.name for source in engine_logs(logs, "m")] == ["m-1", "m-2"]
    assert engine_logs(logs, "nobody") == engine_logs(logs / "none", "m") == []


def test_several_logs_come_in_the_order_of_time(logs):
    lines = last_lines(engine_logs(logs, "m"), 100)
    assert texts(lines) == [
        "model m, runtime vllm, process 7",
        "one",
        "model m, runtime vllm, process 7",
        "two",
        "one, late",
        "on two lines",
        "two again",
    ]
    assert [line.source for line in lines][-2:] == ["m-1", "m-2"]
    assert lines[-2].at_unix_s == lines[-3].at_unix_s == 2002.0


def test_the_newest_lines_are_those_of_all_together(logs):
    assert texts(last_lines(engine_logs(logs, "m"), 2)) == ["on two lines", "two again"]
    assert last_lines(engine_logs(logs, "m"), 0) == []


def test_a_line_without_a_time_is_as_old_as_the_one_before(logs):
    assert texts(last_lines(engine_logs(logs, "m"), 100, since_unix_s=2002.0)) == [
        "one, late",
        "on two lines",
        "two again",
    ]


def test_what_was_turned_over_counts(tmp_path):
    write(tmp_path / "m.log.1", "a\nb\nc\n")
    write(tmp_path / "m.log", "d\ne\n")
    source = Source("m", tmp_path / "m.log")
    assert [line.text for line in last_lines([source], 4)] == ["b", "c", "d", "e"]


def test_a_long_log_is_read_from_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(log_reader, "BLOCK_BYTES", 64)
    write(tmp_path / "m.log", "".join(f"line {number}\n" for number in range(1000)))
    assert [line.text for line in last_lines([Source("m", tmp_path / "m.log")], 3)] == [
        "line 997",
        "line 998",
        "line 999",
    ]


def test_what_a_terminal_would_obey_and_endless_lines_are_cut(tmp_path):
    write(tmp_path / "m.log", "\x1b[31mred\x1b[0m\x07\n" + "x" * 100_000 + "\n")
    red, endless = last_lines([Source("m", tmp_path / "m.log")], 10)
    assert red.text == "red"
    assert len(endless.text) == log_reader.LONGEST_LINE_BYTES


def following(path, *, from_the_beginning=False):
    follower = Follower()
    follower.follow([Source("m", path)], from_the_beginning=from_the_beginning)
    return follower


def test_only_what_comes_is_followed_and_only_whole_lines(tmp_path):
    log = tmp_path / "m.log"
    write(log, "before\nhal")
    follower = following(log)
    assert follower.new_lines() == []
    write(log, "f\nnext\nunfin")
    assert [line.text for line in follower.new_lines()] == ["half", "next"]
    write(log, "ished\n")
    assert [line.text for line in follower.new_lines()] == ["unfinished"]
    follower.close()


def test_the_last_lines_and_the_following_ones_leave_no_gap_and_no_doubles(tmp_path):
    log = tmp_path / "m.log"
    write(log, "one\ntwo\nth")
    follower = following(log)
    write(log, "ree\nfour\n")
    before = last_lines([Source("m", log)], 10, None, follower.ends())
    assert [line.text for line in [*before, *follower.new_lines()]] == ["one", "two", "three", "four"]
    follower.close()


def test_a_turn_over_loses_nothing(tmp_path):
    log = tmp_path / "m.log"
    write(log, "old\n")
    follower = following(log)
    write(log, "last of the old file\n")
    os.replace(log, tmp_path / "m.log.1")
    write(tmp_path / "m.log.1", "written while it was turned over\n")
    write(log, "first of the new file\n")
    assert [line.text for line in follower.new_lines()] == [
        "last of the old file",
        "written while it was turned over",
        "first of the new file",
    ]
    follower.close()


def test_a_log_that_comes_later_is_followed_from_its_beginning(tmp_path):
    follower = following(tmp_path / "m.log", from_the_beginning=True)
    assert follower.new_lines() == []
    write(tmp_path / "m.log", "first words\n")
    assert [line.text for line in follower.new_lines()] == ["first words"]
    follower.follow([Source("m", tmp_path / "m.log")], from_the_beginning=True)
    assert follower.new_lines() == []
    follower.close()


def test_a_deleted_log_ends_quietly(tmp_path):
    log = tmp_path / "m.log"
    write(log, "x\n")
    follower = following(log)
    log.unlink()
    assert follower.new_lines() == []
    follower.close()
