"""The promise is judged by the median of the passes' ratios, and only where the quiet tenant was served."""

from __future__ import annotations

import pytest

from loadtests.gateway.problems import CannotMeasure
from loadtests.tenants.__main__ import figure
from loadtests.tenants.caller import Heard


def seen(quiet_ms: float, *, statuses: dict[int, int] | None = None, late_ms: float = 1.0) -> dict[str, Heard]:
    took_ms = [quiet_ms / 2] * 98 + [quiet_ms] * 2
    return {
        "quiet": Heard(took_ms, statuses or {200: 100}),
        "noisy": Heard([9.0], {200: 1, 429: 9}, late_ms=late_ms),
    }


def test_the_median_of_the_passes_ratios_is_judged() -> None:
    """The machine was three times as slow in the second pass: the ratio does not see it."""
    found = figure(
        "fair", [{1: seen(10.0), 10: seen(12.0)}, {1: seen(30.0), 10: seen(33.0)}, {1: seen(10.0), 10: seen(20.0)}]
    )
    assert found.value == pytest.approx(1.2)
    assert found.met is True
    assert found.others == {"ms at 1x": 10.0, "ms at 10x": 20.0}
    assert found.details["noisy"][0] == {1: {200: 1, 429: 9}, 10: {200: 1, 429: 9}}


def test_more_than_promised_is_missed() -> None:
    assert figure("fair", [{1: seen(10.0), 10: seen(15.1, late_ms=7.0)}]).met is False
    assert figure("fair", [{1: seen(10.0), 10: seen(15.1, late_ms=7.0)}]).details["callers_late_ms"] == 7.0


@pytest.mark.parametrize("statuses", [{200: 99, 429: 1}, {503: 100}, {}, {0: 1, 200: 99}])
def test_a_quiet_tenant_that_was_not_served_makes_no_figure(statuses: dict[int, int]) -> None:
    bad = seen(10.0)
    bad["quiet"].statuses = statuses
    with pytest.raises(CannotMeasure, match="the quiet tenant was answered"):
        figure("fair", [{1: seen(10.0), 10: bad}])
