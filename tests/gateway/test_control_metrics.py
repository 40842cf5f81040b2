"""The controller's figures as Prometheus text."""

from __future__ import annotations

from gateway.control_metrics import render
from models.store.records import ControlMeters, EstimateMeter


def test_nothing_is_shown_where_nothing_is_known() -> None:
    assert render(None) == b""


def test_how_far_estimates_were_from_what_happened() -> None:
    meter = EstimateMeter(model_id="org/m", transition="start", counts=(1, 3), sum_s=0.4, estimated_s=2.0, took_s=2.2)
    text = render(ControlMeters(bounds_s=(0.1,), estimates=(meter,))).decode()
    labels = 'model="org/m",transition="start"'
    assert f'roundhouse_estimate_error_seconds_bucket{{le="0.1",{labels}}} 1.0' in text
    assert f"roundhouse_estimate_error_seconds_count{{{labels}}} 3.0" in text
    assert f"roundhouse_estimate_error_seconds_sum{{{labels}}} 0.4" in text
    assert f"roundhouse_estimated_seconds_total{{{labels}}} 2.0" in text
