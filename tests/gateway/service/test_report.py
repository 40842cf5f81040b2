from __future__ import annotations

import io
import os

import msgspec

from gateway.service.report import Event, render, to_all, to_json_lines, to_screen

EVENTS = (
    Event(kind="note", text="Roundhouse starts"),
    Event(kind="starting", part="redis", text="the embedded store"),
    Event(kind="ready", part="redis", seconds=0.25),
    Event(kind="progress", part="demo-models", text="tiny-llama made"),
    Event(kind="died", part="gateway", text="was ended by SIGKILL; starting it again", lines=("last words", "the end")),
    Event(kind="serving", text="It serves.", data={"url": "http://127.0.0.1:8000"}),
    Event(kind="stopped", part="redis", seconds=12.0),
)
SCREEN = """\
Roundhouse starts
  redis        ready       0.2 s
  demo-models  tiny-llama made
! gateway      was ended by SIGKILL; starting it again
    | last words
    | the end
It serves.
  redis        stopped    12.0 s
"""


def test_what_people_see() -> None:
    stream = io.StringIO()
    report = to_screen(stream)
    for event in EVENTS:
        report(event)
    assert stream.getvalue() == SCREEN
    assert render(EVENTS[1]) is None


def test_another_process_can_read_all_of_it() -> None:
    stream = io.StringIO()
    report = to_json_lines(stream)
    for event in EVENTS:
        report(event)
    assert tuple(msgspec.json.decode(line, type=Event) for line in stream.getvalue().splitlines()) == EVENTS


def test_a_reader_that_has_gone_is_no_reason_to_stop() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    told: list[Event] = []
    with open(writing, "w") as stream:
        report = to_all(to_json_lines(stream), told.append)
        for event in EVENTS:
            report(event)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # so that closing it flushes into nothing
    assert told == list(EVENTS)
