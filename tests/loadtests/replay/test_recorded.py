"""What the controller did, counted from its recording."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from loadtests.coldstart.service import OwnService
from loadtests.replay.recorded import deeds, longest_gap_s, recording, steps_of
from loadtests.wire import CallFailed
from models.control.recording import Arrivals, Header, Line, encode_line
from packers.types import Hold, ModelId, ReplicaState, Sleep, Start, Stop, Wake
from tests.loadtests.replay.worlds import FOOTPRINT, GPUS, replica, step

START = Start(ModelId("m00"), GPUS[0], FOOTPRINT, "called")
A, B = replica("m00", GPUS[0]), replica("m01", GPUS[0])
ASLEEP = replica("m00", GPUS[0], ReplicaState.ASLEEP)


def test_what_was_begun_counts_by_kind_and_only_within_the_minute() -> None:
    steps = [
        step(99.0, (), (START,)),
        step(100.0, (A,), (Sleep(A.id, A.model, A.gpu, "for m01", evicted_for=ModelId("m01")), START)),
        step(110.0, (A,), (Stop(A.id, A.model, A.gpu, "unused"), Hold(ModelId("m02"), "no room"))),
        step(120.0, (ASLEEP,), (Wake(ASLEEP.id, ASLEEP.model, ASLEEP.gpu, "called"),)),
        step(160.0, (A,), (START,)),
    ]
    found = deeds(steps, 100.0, 160.0)
    assert (found.starts, found.wakes, found.sleeps, found.stops, found.evictions) == (1, 1, 1, 1, 1)


def test_gpu_time_is_that_of_replicas_which_do_not_sleep() -> None:
    steps = [step(90.0), step(100.0, (A, B)), step(110.0, (A, replica("m02", GPUS[1]))), step(130.0, (ASLEEP,))]
    found = deeds(steps, 95.0, 150.0)
    assert found.gpu_s == 10 * 2 + 20 * 2
    assert found.occupied_gpu_s == 10 * 1 + 20 * 2, "two on one GPU share it"
    early = deeds(steps, 105.0, 115.0)
    assert (early.gpu_s, early.occupied_gpu_s) == (20.0, 5 + 2 * 5)


def test_the_longest_time_that_nothing_was_recorded() -> None:
    assert longest_gap_s([step(1.0), step(2.0), step(12.0), step(13.0)]) == 10.0
    assert longest_gap_s([]) == 0.0


def test_a_recording_is_read_as_the_command_line_writes_it(tmp_path: Path) -> None:
    lines: list[Line] = [
        Header(roundhouse="1", at_unix_s=1.0, simulated=True),
        Arrivals(at_s=1.0, model="m00", count=2),
        step(5.0, (A,), (START,)),
    ]
    (tmp_path / "r.jsonl").write_text("".join(encode_line(line) + "\n" for line in lines))
    (found,) = steps_of(tmp_path / "r.jsonl")
    assert found == step(5.0, (A,), (START,))


def test_a_recorder_that_fails_ends_the_run_with_its_own_words(tmp_path: Path) -> None:
    """There is no service in this folder."""
    service = OwnService(tmp_path, 1)
    with (
        pytest.raises(CallFailed, match=r"(?s)the recording failed:.*not running|no service"),
        recording(service, tmp_path / "r.jsonl", 1.0),
    ):
        assert sys.executable
