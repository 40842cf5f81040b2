"""A transcript as subtitles: SubRip (srt) and WebVTT (vtt)."""

from __future__ import annotations

from collections.abc import Sequence

from models.runtimes.tasks.transcripts import Segment


def srt(segments: Sequence[Segment]) -> str:
    blocks = [
        f"{number}\n{_time(each.start_s, ',')} --> {_time(each.end_s, ',')}\n{each.text}\n"
        for number, each in enumerate(segments, 1)
    ]
    return "\n".join(blocks)


def vtt(segments: Sequence[Segment]) -> str:
    blocks = [f"{_time(each.start_s, '.')} --> {_time(each.end_s, '.')}\n{each.text}\n" for each in segments]
    return "\n".join(["WEBVTT\n", *blocks])


def _time(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
