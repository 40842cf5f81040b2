from __future__ import annotations

import math

import pytest

from packers.sim import Sample, StartUp, TierTime, fit_tier
from packers.sim.service import ServiceTimes, TokenRates
from packers.sim.trace import Trace
from packers.types import ModelId
from tests.packers.sim.scenes import GB, model


def test_the_goals_start_up_times() -> None:
    times = StartUp().times(model("a", 60))
    assert times.disk_s == pytest.approx(8 + 20)
    assert times.host_s == pytest.approx(1 + 3)


def test_a_disk_is_read_for_the_whole_group_and_ram_feeds_each_gpu() -> None:
    times = StartUp().times(model("a", 60, tensor_parallel=2))
    assert times.disk_s == pytest.approx(8 + 40)
    assert times.host_s == pytest.approx(1 + 3)


def test_constant_times() -> None:
    assert StartUp.constant(12).times(model("a", 7)).host_s == 12
    assert StartUp.constant(12, 1).times(model("a", 70)).host_s == 1


def test_fixed_part_and_bandwidth_are_found_again() -> None:
    truth = TierTime(8, 3 * GB)
    found = fit_tier(Sample(gb * GB, truth.seconds(gb * GB)) for gb in (2, 16, 30, 65))
    assert found.fixed_s == pytest.approx(8)
    assert found.bytes_per_s == pytest.approx(3 * GB)


def test_published_load_times() -> None:
    """ServerlessLLM, H100, from NVMe: 8B 0.68 s, 32B 3.22 s (bf16)."""
    found = fit_tier([Sample(16 * GB, 0.68, 30), Sample(64 * GB, 3.22, 30), Sample(65 * GB, 3.22, 30)])
    assert found.fixed_s == 0
    assert found.bytes_per_s == pytest.approx(20 * GB, rel=0.05)
    slow = fit_tier([Sample(16 * GB, 4.44), Sample(64 * GB, 19.09), Sample(65 * GB, 20.59)])
    assert slow.seconds(64 * GB) == pytest.approx(19.8, rel=0.05)


def test_one_size_only_is_all_fixed_time() -> None:
    assert fit_tier([Sample(4, 3.0), Sample(4, 5.0)]) == TierTime(4.0)


def test_times_that_fall_with_the_size_are_all_fixed_time() -> None:
    assert fit_tier([Sample(1, 5.0), Sample(9, 3.0)]) == TierTime(4.0)


def test_a_mean_of_many_counts_more() -> None:
    found = fit_tier([Sample(0, 1.0, 99), Sample(0, 2.0, 1)])
    assert found.fixed_s == pytest.approx(1.01)


@pytest.mark.parametrize(
    "wrong", [Sample(-1, 1.0), Sample(1, -1.0), Sample(1, math.nan), Sample(1, 1.0, 0), Sample(1, math.inf)]
)
def test_wrong_samples_are_refused(wrong: Sample) -> None:
    with pytest.raises(ValueError, match="sample 1"):
        fit_tier([Sample(1, 1.0), wrong])


def test_nothing_to_fit() -> None:
    with pytest.raises(ValueError, match="no sample"):
        fit_tier([])


@pytest.mark.parametrize(("fixed_s", "bytes_per_s"), [(-1, 1), (math.nan, 1), (1, 0), (1, -5), (1, math.nan)])
def test_wrong_times_are_refused(fixed_s: float, bytes_per_s: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        TierTime(fixed_s, bytes_per_s)


def test_service_times_from_tokens_where_nothing_is_recorded() -> None:
    trace = Trace.of(["a", "b"], [0, 1, 2], [0, 1, 0], [0, 0, 7], [100, 100, 100], [50, 50, 50])
    rates = TokenRates(1.0, 100.0, 10.0)
    assert ServiceTimes(rates).of(trace).tolist() == [7, 7, 7]
    by_model = ServiceTimes(rates, {ModelId("b"): TokenRates(0.0, 100.0, 50.0)})
    assert by_model.of(trace).tolist() == [7, 2, 7]
    longer = Trace.of(["a"], [0], [0], [99], [100], [50])
    assert ServiceTimes(rates).of(longer).tolist() == [99]
    assert ServiceTimes(rates, recorded=False).of(longer).tolist() == [7]
