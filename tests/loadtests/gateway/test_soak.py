"""Flat is what does not grow from the first third to the last, once it has settled."""

from __future__ import annotations

import pytest

from loadtests.gateway.family import Usage
from loadtests.gateway.problems import CannotMeasure
from loadtests.gateway.soak import Sample, drift

MB = 1_000_000


def samples(rss_mb: list[float], descriptors: list[int] | None = None) -> list[Sample]:
    files = descriptors or [100] * len(rss_mb)
    return [Sample(5.0 * i, int(mb * MB), files[i], 3.5 * i) for i, mb in enumerate(rss_mb)]


def test_settling_is_no_growth() -> None:
    found = drift(samples([40, 55, *[60] * 28]))
    assert (found.rss_bytes, found.rss_before_bytes, found.descriptors) == (0, 60 * MB, 0)
    assert found.rss_limit_bytes == 2 * MB
    assert found.cpu_share == pytest.approx(0.7)


def test_a_leak_is_growth() -> None:
    found = drift(samples([60 + 0.5 * i for i in range(30)], [100 + 2 * i for i in range(30)]))
    assert found.rss_bytes == 9 * MB
    assert found.rss_bytes > found.rss_limit_bytes
    assert found.descriptors == 36


def test_single_peaks_do_not_decide() -> None:
    found = drift(samples([60.0] * 27 + [90.0] + [60.0] * 2))
    assert found.rss_bytes == 0


def test_large_processes_may_breathe_a_little() -> None:
    assert drift(samples([1000.0] * 30)).rss_limit_bytes == 20 * MB


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_samples_tell_nothing(count: int) -> None:
    with pytest.raises(CannotMeasure, match="let it run longer"):
        drift(samples([60.0] * count))


def test_a_sample_is_of_all_processes() -> None:
    assert Sample.of(2.0, Usage(3, 1.5, 900, 500, 44)) == Sample(2.0, 900, 44, 1.5)
