"""Where each event ends in a log, and what lies beyond a place that a worker told of."""

from __future__ import annotations

from pathlib import Path

from tests.gateway.metering.desk import Desk


def test_what_was_written_since_is_found_across_segments(tmp_path: Path) -> None:
    desk = Desk(tmp_path, segment_bytes=1000)
    told = [desk.recorder.written]
    for number in range(40):
        desk.over(desk.request(f"r{number}"))
        told.append(desk.recorder.written)
    assert told == sorted(set(told))
    for number, written in enumerate(told):
        beyond = list(desk.spool.beyond(written))
        assert [event.id for event, _ in beyond] == [f"r{later}" for later in range(number, 40)]
        assert all(end > written for _, end in beyond)
        assert [end for _, end in beyond] == told[number + 1 :]


def test_a_table_that_is_only_being_made_is_empty(tmp_path: Path) -> None:
    """Its worker may be killed before the file has its size."""
    desk = Desk(tmp_path)
    desk.note(desk.request("open"))
    (desk.recorder.folder / "0001.open").touch()
    assert [one.id for one in desk.spool.look().watermark.open] == ["open"]
    desk.die()
    assert desk.spool.finish()
    assert [event.id for event in desk.events()] == ["open"]


def test_what_is_cut_off_lies_beyond_all_that_was_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    open_ = desk.request("open")
    desk.note(open_)
    desk.over(desk.request("over"))
    written = desk.recorder.written
    desk.die()
    assert desk.spool.finish()
    assert [event.id for event, _ in desk.spool.beyond(written)] == ["open"]
    assert [event.id for event, _ in desk.spool.beyond(0)] == ["over", "open"]
