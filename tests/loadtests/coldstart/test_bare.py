"""A real launcher with engines of the fake runtime: the wire that the benchmark speaks is the engines' own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.coldstart.bare import BareFailed, BareLauncher, Wire, _lives, bare_launcher
from loadtests.coldstart.bare_passes import bare_first_tokens, cycles
from loadtests.coldstart.scene import SIZES
from loadtests.target import Target
from loadtests.wire import get_json
from tests.models.runtimes import fake_runtime


def ask(target: Target, model: str) -> float:
    assert get_json(target, "/v1/models")["model"] == model
    return 0.001


@pytest.fixture(scope="module")
def launcher() -> Iterator[BareLauncher]:
    with (
        tempfile.TemporaryDirectory(prefix="rh") as folder,
        bare_launcher(Path(folder), f"{fake_runtime.NAME}:make") as running,
    ):
        yield FakeLauncher(running.folder, running.pid)


class FakeLauncher(BareLauncher):
    def _order(self, model: str, source: Path, weights_mib: int, kv_mib: int) -> dict[str, Any]:
        return super()._order(model, source, weights_mib, kv_mib) | {
            "runtime": "fake",
            "engine_args": {"weights": "packed"},
        }


def test_an_engine_starts_sleeps_wakes_and_stops(launcher: BareLauncher) -> None:
    engine = launcher.start("m", Path("/nowhere"), 1, 1)
    assert engine.status["timings_s"]["ready"] > 0
    assert engine.call("sleep")["state"] == "asleep"
    assert engine.call("wake")["state"] == "ready"
    assert engine.settle() == "packed"
    assert ask(engine.target, "m") > 0
    engine.stop()
    with pytest.raises(OSError, match=r"No such file|refused"):
        Wire(launcher.folder / f"{engine.status['order']['replica_id']}.ctl")


def test_an_engine_that_fails_is_told_in_its_words(launcher: BareLauncher) -> None:
    with pytest.raises(BareFailed, match="no such weights"):
        launcher.start("m", Path("/nowhere"), 1, 1, engine_args={"fails": "no such weights"})


def test_an_order_that_fails_in_sleep_is_told(launcher: BareLauncher) -> None:
    engine = launcher.start("m", Path("/nowhere"), 1, 1, engine_args={"sleep_fails": True})
    with pytest.raises(BareFailed, match="it cannot sleep today"):
        engine.call("sleep")
    engine.stop()


def test_first_tokens_are_of_counted_passes_only(launcher: BareLauncher) -> None:
    figures = bare_first_tokens(launcher, SIZES[0], Path("/nowhere"), 2, ask)
    assert [len(figure.values) for figure in figures] == [2, 2, 2]
    assert figures[0].beside["first start ever"]["to first token"] > 0
    assert len(figures[0].beside["phases"]) == 2


def test_cycles_leave_samples_of_the_launcher(launcher: BareLauncher) -> None:
    took, grown = cycles(launcher, Path("/nowhere"), 10, ask, lambda _: None)
    assert len(took.values) == 10
    assert len(grown.beside["launcher"]) == 10
    assert grown.problem is None


def test_an_engine_that_was_left_ends_with_the_benchmark() -> None:
    with tempfile.TemporaryDirectory(prefix="rh") as folder:
        with bare_launcher(Path(folder), f"{fake_runtime.NAME}:make") as running:
            left = FakeLauncher(running.folder, running.pid).start("m", Path("/nowhere"), 1, 1)
        give_up_s = time.monotonic() + 30
        while _lives(left.pid):
            assert time.monotonic() < give_up_s
        left.control.close()


def test_a_launcher_that_ends_is_told_with_its_log(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)  # no unix socket has a path of this length
    long.mkdir()
    with (
        pytest.raises(BareFailed, match=r"exited with \d+:"),
        bare_launcher(long),
    ):
        pass
