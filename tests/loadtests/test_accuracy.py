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
DELAYS_S = (0.4, 0.1, 0.1, 0.2, 0.1, 0.1)


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
        service = FakeService({"m": FakeModel(("x",) * len(DELAYS_S), delays_s=DELAYS_S, state="ready")})
        done = loaded(service, tmp_path, "steady", "--duration", "3s", *load_of)
        known = as_sent(service)
        whole = done.run["summary"]
        assert (whole["failed"], whole["requests"]) == (0, len(service.tokens))
        assert whole["ttft_ms"]["min"] >= 400
        assert whole["gap_ms"]["count"] == 5 * whole["requests"]
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
    assert len(polite) > 100
    assert (percentile(polite, 90) < 0.3, polite[-1] > 1.2) == (True, True)
    honest = stalled(tmp_path, "--rate", "20")
    # 1.5 of 4 s are stalled: of those who come then, waiting is even from 0 to 1.5 s.
    assert percentile(honest, 90) > 0.75
    assert sum(ttft > 0.1 for ttft in honest) / len(honest) > 0.2


def held_up(home: Path, hold: Callable[[int], None]) -> Done:
    """A run of which ``hold`` gets the generator's process."""
    with FakeService({"m": FakeModel(("x", "y"), state="ready")}).running() as service:
        words = command("steady", "--rate", "25", "--duration", "3s", "--out", str(home / "out"))
        process = subprocess.Popen(
            words, env=environment(home, service.target), cwd=home, text=True, stdout=subprocess.PIPE,
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


def test_a_request_that_never_ends_is_a_failure_and_not_forgotten(tmp_path: Path) -> None:
    with FakeService({"m": FakeModel(breaks="hang")}).running() as service:
        done = load(service.target, tmp_path, "steady", "--users", "3", "--duration", "1s", "--drain", "1s")
    assert done.status == 1
    assert [(error["code"], error["count"]) for error in done.run["summary"]["errors"]] == [("unfinished", 3)]
    assert len(done.rows[0].gaps_us) == 3  # what had come is kept
