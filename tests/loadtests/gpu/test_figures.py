"""Lines for people from what the measurements told."""

from __future__ import annotations

import pytest

from loadtests.gpu import figures

MIB = 1 << 20


def test_goal_c5_is_bytes_over_bandwidth_with_its_slack():
    assert figures.wake_goal_s(50_000_000_000, 50e9) == pytest.approx(1.4)


def test_each_kind_of_host_memory_has_a_line():
    told = {
        "pinned": {"bytes_per_s": 52.34e9, "passes": [], "why": ""},
        "registered file": {
            "bytes_per_s": 0,
            "passes": [],
            "why": "this GPU cannot read memory that is mapped read-only",
        },
    }
    assert figures.bandwidth_lines(told) == [
        "host to device, pinned: 52.3 GB/s",
        "host to device, registered file: not possible (this GPU cannot read memory that is mapped read-only)",
    ]


WAKE = {"bytes": 10_000_000_000, "kept": "registered", "wake_s": [0.25, 0.2, 0.3], "suspend_s": [0.01], "equal": True}


@pytest.mark.parametrize(("rate", "verdict"), [(50e9, "goal C5 at most 0.360 s: met"), (1e12, "0.113 s: missed")])
def test_a_wake_is_held_against_the_bus(rate, verdict):
    line = figures.wake_line(WAKE, rate)
    assert line.startswith("wake 10.00 GB (registered): median 0.250 s (40.0 GB/s), sleep 0.010 s")
    assert line.endswith(verdict)


def test_without_a_bandwidth_there_is_no_goal_and_wrong_answers_are_shouted():
    assert "goal" not in figures.wake_line(WAKE, 0.0)
    assert figures.wake_line({**WAKE, "equal": False}, 0.0).endswith("; THE ANSWERS DIFFER")


def test_residue_is_told_step_by_step():
    told = {"context": 500 * MIB, "loaded": 1600 * MIB, "used": 1700 * MIB, "asleep": 610 * MIB, "weights": 1024 * MIB}
    assert figures.residue_line(told) == (
        "residue of a process with 1024 MiB of weights: context 500 MiB, loaded 1600 MiB, used 1700 MiB, asleep 610 MiB"
    )
    assert "does not tell" in figures.residue_line({"context": None})


@pytest.mark.parametrize(("off", "verdict"), [(0.019, "met"), (-0.021, "missed")])
def test_the_ledger_has_two_percent(off, verdict):
    line = figures.ledger_line({"ledger_bytes": 1000 * MIB, "nvml_bytes": 1019 * MIB, "off": off})
    assert line == f"ledger against NVML: 1000 and 1019 MiB, {off:+.2%}, goal within 2%: {verdict}"
    assert "not measured (no driver)" in figures.ledger_line({"why": "no driver"})


def test_what_stays_after_a_checkpoint_is_the_worst_that_was_seen():
    one = {"checkpoint_s": 0.4, "wake_s": 0.6, "asleep_bytes": 600 * MIB, "away_bytes": 0}
    told = {"bytes": 10**9, "passes": [one, {**one, "away_bytes": 2 * MIB}], "equal": True}
    assert figures.checkpoint_line(told) == (
        "checkpoint beside 1.00 GB of weights: away in 0.400 s, awake in 0.600 s; 600 MiB stay asleep, 2 MiB stay away"
    )
