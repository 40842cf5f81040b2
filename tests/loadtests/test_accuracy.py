"""The figures are right: against an engine whose delays are known, against one that stalls, and when the generator is
itself held up, which it must say."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from loadtests.figures import percentile
from tests.loadtests.fake_service import FakeModel, FakeService
from tests.loadtests.running import Done, command, environment, finished, load, loaded

TRIES = 3  # a busy machine delays anything: once it has to come out right
WITHIN = 0.02
# Before each word, by model: no percentile of one is another's.
DELAYS_S = {
    "prompt": (0.4, 0.1, 0.1, 0.2, 0.1, 0.1),
    "slower": (0.6, 0.15, 0.05, 0.3, 0.1, 0.1),
    "slowest": (0.8, 0.2, 0.4, 0.05, 0.1, 0.1),
}


def figures(samples_ms: Sequence[float]) -> list[float]:
    ordered = sorted(samples_ms)
    return [percentile(ordered, percent) for percent in (50, 90, 95, 99)]


def close(measured: Sequence[float], known: Sequence[float]) -> bool:
    return list(measured) == pytest.approx(list(known), rel=WITHIN)


def as_sent(service: FakeService) -> dict[str, list[float]]:
    """Percentiles of what the engine did, by its own clock."""
    streams = service.tokens
    return {
        "ttft_ms": figures([(sent[1] - sent[0]) * 1e3 for sent in streams]),
        "gap_ms": figures([(b - a) * 1e3 for sent in streams for a, b in pairwise(sent[1:])]),
        "e2e_ms": figures([(sent[-1] - sent[0]) * 1e3 for sent in streams]),
    }


@pytest.mark.parametrize(
    "load_of", [("--rate", "8"), ("--users", "6"), ("--rate", "8", "--workers", "2")], ids=" ".join
)
def test_ttft_gaps_and_percentiles_are_within_two_percent_of_the_engines_own(
    load_of: tuple[str, ...], tmp_path: Path
) -> None:
    apart = []
    for _ in range(TRIES):
        service = FakeService(
            {name: FakeModel(("x",) * len(each), delays_s=each, state="ready") for name, each in DELAYS_S.items()}
        )
        done = loaded(service, tmp_path, "steady", "--duration", "2s", *load_of)
        known = as_sent(service)
        whole = done.run["summary"]
        assert (whole["failed"], whole["requests"]) == (0, len(service.tokens))
        assert whole["ttft_ms"]["min"] >= 400
        assert whole["gap_ms"]["count"] == 5 * whole["requests"]
        for name, each in DELAYS_S.items():  # nothing was sooner than it was told to be
            assert whole["models"][name]["ttft_ms"]["min"] >= each[0] * 1e3
            assert whole["models"][name]["gap_ms"]["p50"] >= sorted(each[1:])[2] * 1e3 - 1
            assert whole["models"][name]["e2e_ms"]["min"] >= sum(each) * 1e3
        measured = {kind: [whole[kind][name] for name in ("p50", "p90", "p95", "p99")] for kind in known}
        apart.append((measured, known, done.run["generator"]["reasons"]))
        if all(close(measured[kind], known[kind]) for kind in known) and done.run["generator"]["valid"]:
            return
    pytest.fail(f"measured, known: {apart}")


def stalled(home: Path, *words: str) -> list[float]:
    """Times to first token (s) of a run during which the service stalls once, for 1.5 s."""
    service = FakeService({"m": FakeModel(("x",), state="ready")})

    def stall() -> None:
        while not service.asked:
            time.sleep(0.01)
        time.sleep(1.0)
        with service.stall:
            time.sleep(1.5)

    stalling = threading.Thread(target=stall)
    stalling.start()
    done = loaded(service, home, "steady", "--duration", "4s", *words)
    stalling.join()
    return sorted((row.ttft_us or 0) / 1e6 for row in done.rows)


def test_a_stall_does_not_hide_behind_callers_who_wait_for_their_answers(tmp_path: Path) -> None:
    """Coordinated omission: a closed load stops asking while the service stalls, so one request in hundreds shows it.
    In an open load everybody who would have come in that time has waited for what was left of it."""
    polite = stalled(tmp_path, "--users", "1")
    assert len(polite) > 20
    assert (percentile(polite, 90) < 0.3, polite[-1] > 1.2) == (True, True)
    assert sum(ttft > 0.75 for ttft in polite) < 3
    honest = stalled(tmp_path, "--rate", "20")
    # 1.5 of 4 s are stalled: of those who come then, waiting is even from 0 to 1.5 s.
    assert percentile(honest, 90) > 0.75
    assert sum(ttft > 0.1 for ttft in honest) / len(honest) > 0.2
    assert sum(ttft > 0.75 for ttft in honest) > 5


def held_up(home: Path, hold: Callable[[int], None], *words: str) -> Done:
    """A run of which ``hold`` gets the generator's process."""
    with FakeService({"m": FakeModel(("x", "y"), state="ready")}).running() as service:
        load_of = () if "--users" in words else ("--rate", "25")
        asked = command("steady", *load_of, "--duration", "3s", "--out", str(home / "out"), *words)
        process = subprocess.Popen(
            asked, env=environment(home, service.target), cwd=home, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        while not service.asked and process.poll() is None:
            time.sleep(0.01)
        hold(int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]))
        out, err = process.communicate(timeout=60)
    return finished(process.returncode, out, err, home / "out")


def test_a_generator_that_was_starved_does_not_call_its_run_valid(tmp_path: Path) -> None:
    def starve(pid: int) -> None:
        time.sleep(0.5)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.8)
        os.kill(pid, signal.SIGCONT)

    done = held_up(tmp_path, starve)
    assert done.status == 1
    assert done.run["summary"]["failed"] == 0
    late_us = max(row.late_us or 0 for row in done.rows)
    assert late_us > 500_000
    assert max(row.ttft_us or 0 for row in done.rows) >= late_us, "who was sent late has waited since it was due"
    assert not done.run["generator"]["valid"]
    assert any(reason.startswith("requests left late") for reason in done.run["generator"]["reasons"])
    assert "NOT VALID: requests left late" in done.out


def test_what_could_not_be_sent_makes_a_run_invalid(tmp_path: Path) -> None:
    """Stopped by hand: what was planned for later was not sent."""

    def interrupt(pid: int) -> None:
        time.sleep(0.5)
        os.kill(pid, signal.SIGINT)

    done = held_up(tmp_path, interrupt)
    assert done.status == 1
    assert "planned requests were never sent" in done.out
    assert done.run["summary"]["requests"] > 0


@pytest.mark.parametrize("load_of", [("--rate", "30"), ("--users", "5")], ids=" ".join)
def test_ctrl_c_loses_nothing_of_what_several_workers_saw(load_of: tuple[str, ...], tmp_path: Path) -> None:
    """A terminal sends it to all of them at once."""

    def interrupt(pid: int) -> None:
        time.sleep(1.5)
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, workers)):
            os.kill(each, signal.SIGINT)

    done = held_up(tmp_path, interrupt, "--workers", "2", "--duration", "20s", *load_of)
    generator, whole = done.run["generator"], done.run["summary"]
    assert generator["lost_workers"] == 0
    assert generator["sent"] == whole["requests"] > 5
    assert done.run["duration_s"] < 20
    assert ("planned requests were never sent" in done.out) == (load_of[0] == "--rate")


def test_a_worker_that_dies_makes_a_run_invalid(tmp_path: Path) -> None:
    """What it had seen and not told is nobody's to count."""

    def kill(pid: int) -> None:
        time.sleep(0.5)
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(workers[-1]), signal.SIGKILL)

    done = held_up(tmp_path, kill, "--workers", "2", "--drain", "100ms")
    assert done.status == 1
    assert done.run["generator"]["lost_workers"] == 1
    assert "1 of the generator's workers did not tell their end" in done.out
    assert done.run["summary"]["requests"] > 10


def test_a_request_that_never_ends_is_a_failure_and_not_forgotten(tmp_path: Path) -> None:
    with FakeService({"m": FakeModel(breaks="hang")}).running() as service:
        done = load(service.target, tmp_path, "steady", "--users", "3", "--duration", "1s", "--drain", "1s")
    assert done.status == 1
    assert [(error["code"], error["count"]) for error in done.run["summary"]["errors"]] == [("unfinished", 3)]
    assert len(done.rows[0].gaps_us) == 3  # what had come is kept
    assert all(2e6 <= row.end_us < 8e6 for row in done.rows), "as long as --drain, not until everyone is given up"
