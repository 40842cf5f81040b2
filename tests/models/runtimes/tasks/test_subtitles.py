"""Transcripts as subtitles."""

from __future__ import annotations

from models.runtimes.tasks.subtitles import srt, vtt
from models.runtimes.tasks.transcripts import Segment, SpokenWord


def said(text, start_s, end_s):
    return Segment(tuple(SpokenWord(word, start_s, end_s) for word in text.split()), start_s, end_s, -0.1)


SEGMENTS = [said("all aboard", 0.0, 1.25), said("the line is clear", 3661.5, 3662.0049)]


def test_subrip_numbers_its_blocks_and_writes_commas():
    assert srt(SEGMENTS) == (
        "1\n00:00:00,000 --> 00:00:01,250\nall aboard\n\n2\n01:01:01,500 --> 01:01:02,005\nthe line is clear\n"
    )


def test_webvtt_has_a_head_and_writes_points():
    assert vtt(SEGMENTS) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\nall aboard\n\n01:01:01.500 --> 01:01:02.005\nthe line is clear\n"
    )


def test_nothing_said_is_an_empty_file():
    assert srt([]) == ""
    assert vtt([]) == "WEBVTT\n"
