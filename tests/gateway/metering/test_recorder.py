"""How far a spool is complete, and what becomes of it when the disk is full."""

from __future__ import annotations

import errno
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.errors import Unavailable
from gateway.exchange import Usage
from gateway.metering import mapped
from gateway.metering.reader import spools
from gateway.metering.recorder import GRACE_US
from models.store.usage import UsageEvent, Watermark
from tests.gateway.metering.desk import Desk, Request, all_of


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_tick_vouches_for_all_but_the_last_tenth_of_a_second(desk: Desk) -> None:
    desk.tick()
    assert desk.spool.look().watermark == Watermark(worker="w1", until_us=desk.unix_us(desk.watch.at_s) - GRACE_US)


def test_quick_requests_are_never_noted(desk: Desk) -> None:
    request = desk.request("req_1")
    desk.tick(request, after_s=0.05)
    assert request.slot is None
    desk.watch.at_s += 0.04
    desk.over(request)
    assert desk.events()[0].runs[0].us == 90_000


def test_whoever_was_there_when_it_ends_is_in_the_table(desk: Desk) -> None:
    old = desk.request("req_old")
    desk.watch.at_s += 0.08
    young = desk.request("req_young")
    desk.tick(old, young)
    watermark = desk.spool.look().watermark
    assert [one.id for one in watermark.open] == ["req_old"]
    assert watermark.open[0].from_us < watermark.until_us
    desk.over(young)
    assert desk.events()[0].runs[0].from_us >= watermark.until_us


def test_a_request_that_is_held_again_is_open_on_no_replica(desk: Desk) -> None:
    request = desk.request("req_1")
    desk.watch.at_s += 0.03
    desk.recorder.left(request)
    desk.note(request)
    desk.tick()
    (held,) = desk.spool.look().watermark.open
    assert held.replica == ""
    assert [(run.replica, run.us) for run in held.runs] == [("m-1", 30_000)]
    request.exchange.replica, request.from_s = "m-2", desk.watch.at_s
    desk.note(request)
    (sent,) = desk.spool.look().watermark.open
    assert (sent.replica, sent.from_us) == ("m-2", desk.unix_us(desk.watch.at_s))
    assert sent.runs == held.runs


class Watermarks(RuleBasedStateMachine):
    """Whatever happens when: what a watermark has vouched for is never changed by an event that comes later."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="rh-"))
        self.desk = Desk(self.folder, segment_bytes=4096)
        self.numbers = itertools.count()
        self.flying: list[Request] = []
        self.offset = 0
        self.events: dict[str, UsageEvent] = {}
        self.seen: list[tuple[Watermark, set[str]]] = []

    def teardown(self) -> None:
        self.desk.die()
        self.desk.recorder._log._maker.shutdown()
        shutil.rmtree(self.folder)

    @rule(after_s=st.sampled_from([0.001, 0.02, 0.05, 0.09, 0.1, 0.7]))
    def time_passes(self, after_s: float) -> None:
        self.desk.watch.at_s += after_s

    @rule(by_s=st.sampled_from([-86_400.0, -0.3, 0.3, 3_600.0]))
    def the_machine_s_clock_is_set(self, by_s: float) -> None:
        self.desk.watch.unix_s += by_s

    @rule()
    def a_request_is_sent(self) -> None:
        self.flying.append(self.desk.request(f"req_{next(self.numbers)}"))

    @rule(which=st.integers(0, 1 << 20))
    def one_is_over(self, which: int) -> None:
        if self.flying:
            self.desk.over(self.flying.pop(which % len(self.flying)), Usage(1, 1, 0))

    @rule(which=st.integers(0, 1 << 20), after_s=st.sampled_from([0.0, 0.05, 0.3]))
    def one_loses_its_replica(self, which: int, after_s: float) -> None:
        if self.flying:
            request = self.flying[which % len(self.flying)]
            self.desk.recorder.left(request)
            self.desk.note(request)
            self.desk.watch.at_s += after_s
            request.exchange.replica, request.from_s = "m-2", self.desk.watch.at_s
            self.desk.note(request)

    @rule(after_s=st.sampled_from([0.0, 0.04, 0.1]))
    def it_ticks(self, after_s: float) -> None:
        self.desk.tick(*self.flying, after_s=after_s)

    @invariant()
    def what_was_vouched_for_holds(self) -> None:
        look = self.desk.spool.look()
        while (batch := self.desk.spool.read(self.offset, 3)).events:
            self.offset = batch.offset
            for event in batch.events:
                assert event.id not in self.events
                self.events[event.id] = event
        if not self.seen or look.watermark != self.seen[-1][0]:
            if self.seen:
                assert look.watermark.until_us >= self.seen[-1][0].until_us, "it never goes back"
            self.seen.append((look.watermark, set(self.events)))
        for watermark, shipped in self.seen[-20:]:
            self._holds(watermark, shipped)

    def _holds(self, watermark: Watermark, shipped: set[str]) -> None:
        known = {one.id: one for one in watermark.open}
        for event in self.events.values():
            if event.id in shipped:
                continue
            for run in event.runs:
                if event.id in known:
                    known_runs = {(old.replica, old.from_us) for old in known[event.id].runs}
                    known_runs.add((known[event.id].replica, known[event.id].from_us))
                    if (run.replica, run.from_us) in known_runs:
                        continue
                assert run.from_us >= watermark.until_us, "a run of before that nobody had told of"
            if event.id in known and known[event.id].replica:
                assert event.ended_us >= watermark.until_us, "it was open, and is said to have ended before"


TestWatermarks = Watermarks.TestCase
TestWatermarks.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


# -- a full disk -------------------------------------------------------------------------------------------------------


class Disk:
    """Takes files while ``free``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = True
        create = mapped.create

        def limited(*given: Any) -> Any:
            if not self.free:
                raise OSError(errno.ENOSPC, "No space left on device")
            return create(*given)

        monkeypatch.setattr(mapped, "create", limited)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_a_disk_without_room_for_a_spool_is_told_of_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="MiB are left"):
        Desk(tmp_path, room_bytes=1 << 60)


def test_events_wait_for_room_and_so_does_the_watermark(tmp_path: Path, disk: Disk) -> None:
    desk = Desk(tmp_path, segment_bytes=4096)
    disk.free = False
    for number in range(100):
        desk.over(desk.request(f"req_{number}"))
    desk.tick()
    written = desk.events()
    assert 0 < len(written) < 100
    assert desk.recorder.waiting == 100 - len(written)
    until_us = desk.spool.look().watermark.until_us
    desk.tick()
    assert desk.spool.look().watermark.until_us == until_us
    disk.free = True
    desk.tick()
    assert desk.recorder.waiting == desk.recorder.lost == 0
    assert [event.id for event in desk.events()] == [f"req_{number}" for number in range(100)]
    assert desk.spool.look().watermark.until_us == desk.unix_us(desk.watch.at_s) - GRACE_US
    desk.over(desk.request("req_100"))
    assert desk.events()[-1].id == "req_100"


def test_when_memory_is_full_too_nothing_more_is_served(tmp_path: Path, disk: Disk) -> None:
    desk = Desk(tmp_path, segment_bytes=4096)
    desk.recorder._log._most_waiting = 5
    disk.free = False
    number = itertools.count()
    while not desk.recorder.full:
        desk.over(desk.request(f"req_{next(number)}"))
    refusal = desk.recorder.refusal()
    assert isinstance(refusal, Unavailable)
    assert "disk" in refusal.message
    desk.over(desk.request("req_refused", None), status=refusal.status)
    desk.over(desk.request("req_late"))
    assert desk.recorder.lost == 1, "what was under way is counted as lost, not forgotten"
    disk.free = True
    desk.tick()
    desk.over(desk.request(f"req_{next(number)}"))
    assert len(desk.events()) == next(number)


def test_an_open_request_without_room_in_the_table_holds_the_watermark(tmp_path: Path, disk: Disk) -> None:
    desk = Desk(tmp_path)
    disk.free = False
    request = desk.request("req_1")
    from_us = desk.unix_us(desk.watch.at_s)
    for _ in range(5):
        desk.tick(request)
    assert request.slot is None
    assert desk.spool.look().watermark.until_us <= from_us
    desk.over(request)
    desk.tick()
    assert desk.spool.look().watermark.until_us > from_us
    assert desk.events()[0].runs[0].from_us == from_us


@pytest.mark.parametrize("tokens", [-5, 1 << 40])
def test_what_an_engine_says_beyond_reason_is_bounded(desk: Desk, tokens: int) -> None:
    for _ in range(2):
        desk.over(desk.request("req_1"), Usage(tokens, 3, 0))
    assert {event.prompt_tokens for event in desk.events()} == {0 if tokens < 0 else (1 << 32) - 1}


def test_a_name_that_somebody_had_before(tmp_path: Path) -> None:
    first = Desk(tmp_path)
    first.over(first.request("req_1"))
    second = Desk(tmp_path)
    second.over(second.request("req_2"))
    first_spool, second_spool = spools(first.home)
    assert [event.id for event in all_of(first_spool)] == ["req_1"]
    assert [event.id for event in all_of(second_spool)] == ["req_2"]
    assert second_spool.worker.startswith("w1-")
