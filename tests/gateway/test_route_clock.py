"""A table written by another machine's clock."""

from __future__ import annotations

import pytest

from gateway.route_clock import CLOCKS_AGREE_S, by_this_clock
from models.store.records import Failure, ModelRoute, RouteTable

FAILURE = Failure(message="no", code="model_start_failed", at_unix_s=1000.0, retry_at_unix_s=1004.0)


def table(written_unix_s: float | None) -> RouteTable:
    models = (ModelRoute(model_id="fine"), ModelRoute(model_id="broken", failure=FAILURE))
    return RouteTable(version=3, models=models, written_unix_s=written_unix_s)


@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0, CLOCKS_AGREE_S + 1])
def test_failures_happen_when_they_did_by_the_clock_of_whoever_waits(ahead_s: float) -> None:
    read = by_this_clock(table(1001.0), 1001.0 + ahead_s)
    fine, broken = read.models
    assert broken.failure is not None
    assert (broken.failure.at_unix_s, broken.failure.retry_at_unix_s) == (1000.0 + ahead_s, 1004.0 + ahead_s)
    assert fine is table(1001.0).models[0] or fine == table(1001.0).models[0]
    assert read.version == 3


@pytest.mark.parametrize("written_unix_s", [1001.0, 1000.0, None])
def test_of_a_clock_that_agrees_nothing_is_changed(written_unix_s: float | None) -> None:
    given = table(written_unix_s)
    assert by_this_clock(given, 1001.5) is given
