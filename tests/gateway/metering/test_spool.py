"""What is written by one process and read by another, whatever moment either of them dies at."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.exchange import Usage
from gateway.metering.layout import COMING, FIRST, SLOTS, log_name, offset_of, segments_of, table_name
from gateway.metering.reader import Spool, SpoolError, clear_away, spools
from models.home import Home
from models.store.usage import Run
from tests.gateway.metering.desk import Desk, all_of


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_an_event_is_read_as_it_was_meant(desk: Desk) -> None:
    request = desk.request("req_1", stream=True, queue_s=0.25, wake_s=1.5, held=True, code="odd")
    request.estimated = True
    began_s = desk.watch.at_s
    desk.watch.at_s += 2.0
    for _ in range(2):  # the first is written in full, others the short way: they read alike
        desk.over(request, Usage(11, 7, 4), 207)
    first, second = desk.events()
    assert first == second
    assert first.started_us == desk.unix_us(began_s)
    assert first.ended_us == first.started_us + 2_000_000
    assert first.runs == (Run(replica="m-1", from_us=first.started_us, us=2_000_000),)
    assert (first.key_id, first.project, first.tenant, first.model) == ("key_1", "default", "acme", "m")
    assert (first.endpoint, first.price_list, first.worker) == ("chat.completions", "standard", "w1")
    assert (first.prompt_tokens, first.completion_tokens, first.cached_tokens) == (11, 7, 4)
    assert (first.status, first.code, first.stream, first.estimated, first.cut) == (207, "odd", True, True, False)
    assert (first.queue_us, first.wake_us) == (250_000, 1_500_000)


def test_requests_without_a_recognised_key_are_nobodys(desk: Desk) -> None:
    desk.over(desk.request("req_1", key_id=""))
    desk.recorder.refused(desk.request("req_2", key_id="").exchange, 401)
    assert desk.events() == []


def test_a_request_that_came_nowhere_has_an_event_once(desk: Desk) -> None:
    exchange = desk.request("req_1", None, code="body_too_large").exchange
    desk.recorder.refused(exchange, 413)
    desk.recorder.refused(exchange, 413)
    (event,) = desk.events()
    assert (event.status, event.code, event.runs, event.price_list) == (413, "body_too_large", (), "")


def test_every_run_counts(desk: Desk) -> None:
    request = desk.request("req_1", "m-1")
    desk.watch.at_s += 0.5
    desk.recorder.left(request)
    desk.watch.at_s += 1.0
    request.exchange.replica, request.from_s = "m-2", desk.watch.at_s
    desk.watch.at_s += 0.25
    desk.over(request)
    (event,) = desk.events()
    assert [(run.replica, run.us) for run in event.runs] == [("m-1", 500_000), ("m-2", 250_000)]
    assert event.runs[1].from_us == event.started_us + 1_500_000


@given(names=st.lists(st.text(max_size=40), min_size=1, max_size=60), most=st.integers(1, 7))
def test_any_texts_over_any_segments_in_any_portions(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], most: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    desk = Desk(folder, segment_bytes=2048)
    for number, name in enumerate(names):
        desk.over(desk.request(f"req_{number}", name or "m-1", model=name, tenant=name[::-1]), Usage(number, 1, 0))
    got = all_of(desk.spool, most=most)
    assert [(event.id, event.model, event.tenant) for event in got] == [
        (f"req_{number}", name, name[::-1]) for number, name in enumerate(names)
    ]
    shutil.rmtree(folder)


def test_a_place_in_the_log_is_good_in_any_process_at_any_time(desk: Desk) -> None:
    desk.over(desk.request("req_1", model="first"))
    offset = desk.spool.read(0).offset
    assert offset > 0
    assert desk.spool.read(offset).events == []
    desk.over(desk.request("req_2", model="first"))
    desk.over(desk.request("req_3", model="second"))
    for spool in (desk.spool, desk.spool):
        assert [event.model for event in spool.read(offset).events] == ["first", "second"]
        assert [event.id for event in spool.read(0).events] == ["req_1", "req_2", "req_3"]
        assert [event.id for event in spool.read(spool.read(offset, 1).offset).events] == ["req_3"]


def test_the_next_segment_is_made_before_it_is_needed(desk: Desk) -> None:
    desk = Desk(desk.home.root, worker="w2", segment_bytes=8192)
    folder = desk.home.spool / "w2"
    for number in range(50):
        desk.over(desk.request(f"req_{number}"))
    desk.tick()
    desk.recorder._log._maker.submit(int).result()  # what was asked before is done
    assert (folder / COMING).exists()
    assert len(segments_of(folder)) == 1, "and it does not count before something is in it"
    for number in range(40):
        desk.over(desk.request(f"more_{number}"))
    assert len(segments_of(folder)) == 2
    assert not (folder / COMING).exists()
    assert len(desk.events()) == 90


# -- a worker that dies ------------------------------------------------------------------------------------------------


def test_a_worker_lives_while_it_has_its_spool_open(desk: Desk) -> None:
    assert desk.spool.is_alive
    assert desk.spool.finish() is False
    assert desk.spool.remove() is False
    desk.die()
    assert not desk.spool.is_alive


def test_what_it_had_under_way_becomes_events(desk: Desk) -> None:
    began_s = desk.watch.at_s
    stream, slow = desk.request("req_stream", stream=True, status=200), desk.request("req_slow", wake_s=1.0)
    done, quick = desk.request("req_done"), desk.request("req_quick")
    assert desk.note(stream)
    assert stream.slot is not None
    stream.slot.count(11, 5)
    desk.tick(stream, slow, done)
    desk.tick(stream, slow, done, after_s=0.4)
    desk.over(done)
    offset = desk.spool.read(0).offset
    desk.die()
    assert desk.spool.finish()
    assert desk.spool.look().finished
    cut = {event.id: event for event in desk.events(offset)}
    assert set(cut) == {"req_stream", "req_slow"}, "of a quick one nobody had seen anything"
    assert quick.slot is None
    died_us = desk.unix_us(began_s + 0.4)
    for event in cut.values():
        assert event.cut
        assert event.estimated
        assert event.code == "worker_died"
        assert event.ended_us == died_us
        assert event.price_list == "standard"
        assert event.runs == (Run(replica="m-1", from_us=desk.unix_us(began_s), us=400_000),)
    assert (cut["req_stream"].prompt_tokens, cut["req_stream"].completion_tokens) == (11, 5)
    assert cut["req_stream"].status == 200, "its caller had been told so"
    assert cut["req_slow"].status == 500
    assert cut["req_slow"].wake_us == 1_000_000


def test_requests_of_one_name_each_have_an_event(desk: Desk) -> None:
    """A caller may give all of its requests one id. The one whose slot was not cleared any more has its event."""
    first = desk.request("same")
    desk.note(first)
    for _ in range(2):
        desk.watch.at_s += 0.01
        desk.note(desk.request("same"))
    slot, first.slot = first.slot, None
    desk.over(first)
    assert slot is not None
    desk.die()
    assert desk.spool.finish()
    assert [(one.id, one.cut) for one in desk.events()] == [("same", False), ("same", True), ("same", True)]


def test_finishing_twice_changes_nothing(desk: Desk) -> None:
    desk.note(desk.request("req_1", stream=True))
    desk.die()
    assert desk.spool.finish()
    look = desk.spool.look()
    before = {path.name: path.read_bytes() for path in desk.spool.folder.iterdir()}
    assert desk.spool.finish()
    assert {path.name: path.read_bytes() for path in desk.spool.folder.iterdir()} == before
    assert desk.spool.look() == look
    assert [event.id for event in desk.events()] == ["req_1"]


def test_killed_between_an_event_and_its_slot(desk: Desk) -> None:
    """The event is there, and the table says that the request is open: it is over."""
    request = desk.request("req_1", stream=True)
    other = desk.request("req_2", stream=True)
    desk.note(request)
    desk.note(other)
    slot, request.slot = request.slot, None
    assert slot is not None
    desk.over(request, Usage(11, 7, 0))
    desk.die()
    assert desk.spool.finish()
    assert [(event.id, event.cut) for event in desk.events()] == [("req_1", False), ("req_2", True)]


@pytest.mark.parametrize("written", [0, 1, 4, 7, 8, 20, 80])
def test_killed_in_the_middle_of_an_event(tmp_path: Path, written: int) -> None:
    """Its caller had no end of an answer, and the table still has the request."""
    desk = Desk(tmp_path)
    request = desk.request("req_2", stream=True)
    desk.note(request)
    desk.over(desk.request("req_1"))
    log = desk.recorder._log
    begin = log._at
    desk.over(desk.request("req_2"))
    log._memory[begin + written : log._at] = bytes(log._at - begin - written)
    desk.die()
    assert [event.id for event in desk.events()] == ["req_1"]
    assert desk.spool.finish()
    batch = desk.spool.read(0)
    assert [(event.id, event.cut) for event in batch.events] == [("req_1", False), ("req_2", True)]
    assert batch.lost_bytes == 0
    assert batch.offset == desk.spool.look().end


def test_killed_in_the_middle_of_a_note(desk: Desk) -> None:
    """The record before it is still good."""
    request = desk.request("req_1", "m-1")
    desk.note(request)
    slot = request.slot
    assert slot is not None
    before = slot.words[slot.at]
    request.exchange.replica = "m-2"
    desk.note(request)
    slot.words[slot.at] = before  # that is the last that would have been written
    (open_one,) = desk.spool.look().watermark.open
    assert open_one.replica == "m-1"


def test_a_disk_that_forgot_is_told_of(desk: Desk) -> None:
    desk = Desk(desk.home.root, worker="w2", segment_bytes=4096)
    for number in range(80):
        desk.over(desk.request(f"req_{number}"))
    first = segments_of(desk.spool.folder)[0].path
    data = bytearray(first.read_bytes())
    whole = all_of(desk.spool)
    assert len(whole) == 80
    data[1000:1100] = bytes(100)
    first.write_bytes(data)
    batch = desk.spool.read(0)
    assert batch.lost_bytes > 1000
    ids = [event.id for event in batch.events]
    assert ids[-1] == "req_79"
    assert len(ids) < 60


def test_clean_ends_are_no_different(desk: Desk) -> None:
    desk.over(desk.request("req_1"))
    desk.note(desk.request("req_2", stream=True))
    desk.recorder.close()
    assert desk.spool.finish()
    assert [(event.id, event.cut) for event in desk.events()] == [("req_1", False), ("req_2", True)]


# -- in the end --------------------------------------------------------------------------------------------------------


def test_old_segments_go_when_they_are_shipped(desk: Desk) -> None:
    desk = Desk(desk.home.root, worker="w2", segment_bytes=4096)
    for number in range(180):
        desk.over(desk.request(f"req_{number}"))
    spool, end = desk.spool, desk.spool.look().end
    segments = segments_of(spool.folder)
    assert len(segments) > 3
    written_s = segments[-1].path.stat().st_mtime
    assert spool.drop(end, written_s + 10) == 0, "they are kept for a while"
    assert spool.drop(offset_of(1, FIRST), written_s + 700) == 4096, "and until they are shipped"
    assert [segment.number for segment in segments_of(spool.folder)] == [one.number for one in segments[1:]]
    assert spool.drop(end, written_s + 10, kept_bytes=8192) == 4096 * (len(segments) - 4), "but so many and no more"
    spool.drop(end, written_s + 700)
    assert [segment.number for segment in segments_of(spool.folder)] == [segments[-1].number]
    assert [event.id for event in all_of(Spool(spool.folder))][-1] == "req_179"
    desk.over(desk.request("req_180"))
    assert [event.id for event in all_of(spool, end)] == ["req_180"]


def test_all_of_it_goes_when_its_worker_is_dead(desk: Desk) -> None:
    desk.die()
    assert desk.spool.remove() is False, "not before it was finished"
    desk.spool.finish()
    assert desk.spool.remove()
    assert spools(desk.home) == []
    assert list(desk.home.spool.iterdir()) == []


def test_what_was_half_made_or_half_removed_is_cleared_away(desk: Desk) -> None:
    half = desk.home.spool / ".new-w7"
    half.mkdir()
    (half / "state").touch()
    assert [spool.worker for spool in spools(desk.home)] == ["w1"]
    made_s = half.stat().st_mtime
    clear_away(desk.home, made_s + 5)
    assert half.exists(), "somebody may be at it"
    clear_away(desk.home, made_s + 100)
    assert not half.exists()


def test_without_a_spool_there_is_nothing(tmp_path: Path) -> None:
    assert spools(Home(tmp_path)) == []


def test_another_version_s_spool_is_left_alone(desk: Desk) -> None:
    desk.die()
    state = desk.spool.folder / "state"
    data = bytearray(state.read_bytes())
    data[8] = 77
    state.write_bytes(data)
    with pytest.raises(SpoolError, match=r"state is of format 77, and this version knows format 1 only"):
        desk.spool.look()
    log = desk.spool.folder / log_name(0)
    log.write_bytes(b"something else" * 10)
    with pytest.raises(SpoolError, match="is no part of a spool"):
        desk.spool.read(0)


def test_the_table_grows_and_its_slots_are_used_again(desk: Desk) -> None:
    requests = [desk.request(f"req_{number}", stream=True) for number in range(SLOTS + 1)]
    for request in requests:
        assert desk.note(request)
    assert len(desk.spool.look().watermark.open) == SLOTS + 1
    for request in requests:
        desk.over(request)
    assert desk.spool.look().watermark.open == ()
    for number in range(2 * SLOTS):
        assert desk.note(desk.request(f"more_{number}"))
    assert not (desk.spool.folder / table_name(2)).exists()
