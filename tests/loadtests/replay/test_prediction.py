"""The simulator plays the same minute; and what is found is put side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.replay import comparison
from loadtests.replay.calibration import Costs, document, service, startup
from loadtests.replay.calls import Answer, timing
from loadtests.replay.minute import Minute, take_minute
from loadtests.replay.prediction import predict
from loadtests.replay.recorded import Deeds
from loadtests.replay.scene import KINDS, LARGE, MIB, SMALL, Scene
from packers.sim import Trace, TraceError
from packers.types import ModelId
from tests.loadtests.replay.worlds import step

NAMES = ("m00", "m01", "m02", "m03")
COSTS = {name: Costs(0.4, 0.1, 0.05, 0.02, 0.01, 0.001) for name in NAMES}
SIZES = dict.fromkeys(NAMES, 16 * MIB)


def minute(*calls: tuple[float, int]) -> Minute:
    trace = Trace.of(NAMES, [at_s for at_s, _ in calls], [model for _, model in calls], output_tokens=[5] * len(calls))
    return Minute("by hand", trace, 60.0)


def test_a_first_call_waits_as_long_as_a_start_was_measured_to_take() -> None:
    found = predict(step(1.0), minute((1.0, 0), (5.0, 0)), COSTS, SIZES)
    assert (found.requests, found.delayed, found.starts_disk, found.starts_host) == (2, 1, 1, 0)
    assert found.waits_s is not None
    assert found.waits_s[0] == pytest.approx(0.4, abs=0.01)
    assert found.waits_s[1] == 0.0


def test_who_has_to_make_room_falls_asleep_and_is_woken_by_the_next_call() -> None:
    """Each GPU holds two of the models, and six are called in turn."""
    calls = [(2.0 * n, n % 4) for n in range(20)]
    few = step(1.0, models=NAMES)
    assert predict(few, minute(*calls), COSTS, SIZES).evictions == 0, "all four fit on two GPUs"


def test_the_costs_that_were_measured_are_the_ones_that_are_played_with() -> None:
    large = {name: Costs(0.4 + 0.2 * (name > "m01"), 0.1, 0.05, 0.03, 0.01, 0.001) for name in NAMES}
    sizes = {name: (16 if name <= "m01" else 96) * MIB for name in NAMES}
    fitted = startup(large, sizes)
    assert fitted.disk.seconds(16 * MIB) == pytest.approx(0.4, abs=1e-6)
    assert fitted.disk.seconds(96 * MIB) == pytest.approx(0.6, abs=1e-6)
    assert fitted.host.seconds(96 * MIB) == pytest.approx(0.1)
    assert fitted.sleep.fixed_s == pytest.approx(0.05)
    assert fitted.stop_s == pytest.approx(0.03)
    trace = minute((1.0, 0)).trace
    assert service(COSTS).of(trace).tolist() == [pytest.approx(0.01 + 5 * 0.001)]
    assert service(COSTS).by_model.keys() == {ModelId(name) for name in NAMES}
    assert document(COSTS)["m00"]["start_s"] == 0.4
    with pytest.raises(TraceError, match="there is no figure"):
        startup({}, SIZES)


def test_the_gateways_own_timing_says_what_a_call_waited_for() -> None:
    assert timing("auth;dur=0.02, queue;dur=12.50, wake;dur=250.00, connect;dur=0, engine-ttfb;dur=9.10") == {
        "auth": 0.00002, "queue": 0.0125, "wake": 0.25, "connect": 0.0, "engine-ttfb": 0.0091,
    }  # fmt: skip
    assert timing("") == {}
    held = Answer("m", 0.0, 0.0, wait_s=0.3, started_s=0.25, total_s=0.4)
    assert held.delayed
    assert held.service_s == pytest.approx(0.1)
    assert not Answer("m", 0.0, 0.0, wait_s=0.3, total_s=0.4).delayed, "it waited for a place, not for a start"


def test_live_and_predicted_side_by_side() -> None:
    predicted = predict(step(1.0), minute((1.0, 0), (5.0, 0), (6.0, 1)), COSTS, SIZES)
    answers = [
        Answer("m00", 1.0, 0.0, 0.5, 0.5, 0.6),
        Answer("m00", 5.0, 0.0, 0.0, 0.0, 0.1),
        Answer("m01", 6.0, 0.0, 0.0, 0.0, 0.1, error="503: no room"),
    ]
    metrics = {each.name: each for each in comparison.compare(answers, Deeds(3, 0, 1, 1, 0, 8.0, 8.0), predicted)}
    assert (metrics["delayed requests"].live, metrics["delayed requests"].predicted) == (1, 2)
    assert metrics["delayed requests"].relative == 1.0
    assert (metrics["starts"].live, metrics["starts"].predicted, metrics["starts"].difference) == (3, 2, -1)
    assert (metrics["failed"].live, metrics["failed"].predicted) == (1, 0)
    assert metrics["wakes"].relative is None
    said = comparison.line("by hand", 60.0, list(metrics.values()))
    assert said.startswith("replay of 60 s (by hand), 3 requests, 1 failed: delayed requests 1 live, 2 predicted (+1")
    assert "starts 3 live, 2 predicted (-1, -33%)" in said
    assert "\n" not in said
    assert comparison.document(list(metrics.values()))[0]["difference"] == 0


def test_there_are_more_models_than_their_gpus_hold(tmp_path: Path) -> None:
    scene = Scene(models=12, gpus=2, fill=0.5)
    needed = sum(scene.kind(number).gpu_mib for number in range(12))
    assert scene.gpu_mib() * 2 <= needed / 2 + 2
    assert [kind.folder for kind in KINDS] == [SMALL, LARGE]
    scene.write(tmp_path / "c.yaml", {SMALL: tmp_path / "s", LARGE: tmp_path / "l"})
    written = json.loads((tmp_path / "c.yaml").read_text())
    assert len(written["models"]) == 12
    assert sum(card["model_source"].endswith("/l") for card in written["models"]) == 4
    tiny = Scene(models=2, gpus=4)
    assert tiny.gpu_mib() == KINDS[1].gpu_mib, "each model fits on some GPU"
    assert tiny.host_mib() == KINDS[1].weights_mib, "and can sleep"


def test_a_made_up_minute_can_be_predicted_whole() -> None:
    found = take_minute(None, list(NAMES), rate_per_s=4.0, seconds=60.0, seed=3)
    predicted = predict(step(1.0), found, COSTS, SIZES)
    assert predicted.requests == len(found.trace) == predicted.served
