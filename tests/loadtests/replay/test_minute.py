"""An hour of a trace becomes a minute of requests to the benchmark's own models."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from loadtests.replay.minute import MOST_TOKENS, Minute, take_minute
from packers.sim import TraceError

NAMES = [f"m{number:02d}" for number in range(6)]


def taken(file: Path | None, seed: int = 1, rate: float = 4.0, seconds: float = 60.0) -> Minute:
    return take_minute(file, NAMES, rate_per_s=rate, seconds=seconds, seed=seed)


def write(path: Path, lines: list[str]) -> Path:
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def check(minute: Minute) -> None:
    trace = minute.trace
    assert set(trace.names) <= set(NAMES)
    assert 0 <= trace.at_s.min() <= trace.at_s.max() <= 60.0
    assert 1 <= trace.output_tokens.min() <= trace.output_tokens.max() <= MOST_TOKENS


def test_made_up_traffic_is_bursty_and_the_same_for_the_same_seed() -> None:
    minute, again, other = taken(None), taken(None), taken(None, seed=2)
    check(minute)
    assert minute.source == "made up"
    assert 120 <= len(minute.trace) <= 900, "about four a second, and bursts besides"
    assert np.array_equal(minute.trace.at_s, again.trace.at_s)
    assert not np.array_equal(minute.trace.at_s[:20], other.trace.at_s[:20])
    per_second = np.bincount(minute.trace.at_s.astype(int), minlength=60)
    assert per_second.max() >= 2.5 * per_second.mean()


def test_a_list_of_requests_is_cut_and_stretched_to_fit(tmp_path: Path) -> None:
    """The busiest models stand for ours, in that order."""
    rows = [f"{i * 7.0},{'abcdefgh'[min(i % 10, 7)]}" for i in range(5000)]
    minute = taken(write(tmp_path / "plain.csv", ["time,model", *rows]))
    check(minute)
    assert len(minute.trace) == 240
    assert minute.trace.at_s.max() > 59.0
    counts = minute.trace.counts()
    assert max(counts, key=lambda name: counts[name]) == "m00"


def test_clients_of_servegen_send_for_an_hour_in_a_minute(tmp_path: Path) -> None:
    head = "category,client,window_start_s,rate_rps,cv,dist,p1,p2"
    rows = [
        f"m-small,c{client},{window * 600},{0.1 * (client + 1)},2,Gamma,0.25,1"
        for client in range(8)
        for window in range(12)
    ]
    minute = taken(write(tmp_path / "servegen.csv.gz", [head, *rows]))
    check(minute)
    assert minute.source == "servegen.csv.gz"
    assert len(minute.trace.names) == 6
    assert 100 <= len(minute.trace) <= 480


def test_what_is_no_trace_says_so(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"bad\.csv"):
        taken(write(tmp_path / "bad.csv", ["hello,world", "1,2"]))
    with pytest.raises(OSError, match="nowhere"):
        taken(tmp_path / "nowhere.csv")


def test_an_answer_is_as_long_as_the_trace_says_within_limits(tmp_path: Path) -> None:
    rows = [f"{i}.0,a,0,{tokens}" for i, tokens in enumerate((3, 9, 5000))]
    minute = taken(write(tmp_path / "t.csv", ["time,model,input_tokens,output_tokens", *rows]), rate=0.05)
    assert minute.trace.output_tokens.tolist() == [3, 9, MOST_TOKENS]
