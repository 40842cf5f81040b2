"""What is counted, and what is never a label."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as LibraryHistogram
from prometheus_client.parser import text_string_to_metric_families

from gateway import metrics as names
from gateway.exchange import Exchange, Usage
from gateway.metrics import Metrics
from gateway.tallies import SECONDS
from models.store.records import ControlMeters, TransitionMeter
from packers.types import ModelId


def rig(loads: Mapping[ModelId, tuple[int, int]] | None = None) -> Metrics:
    return Metrics(lambda: loads or {}, lambda: 7, lambda: True)


def exchange(**facts: object) -> Exchange:
    made = Exchange(
        "req_1", "POST", "/v1/chat/completions", started_s=0.0, endpoint="chat.completions", model="m", status=200
    )
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def samples(metrics: Metrics, meters: ControlMeters | None = None) -> dict[tuple[str, tuple[str, ...]], float]:
    return parsed(metrics.render(meters))


def parsed(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    """(name, label values in the order of their names) -> value"""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = tuple(value for _, value in sorted(sample.labels.items()))
            found[sample.name, labels] = sample.value
    return found


def test_requests_are_counted_by_model_endpoint_and_code() -> None:
    metrics = rig()
    for status in (200, 200, 404):
        metrics.observe(exchange(status=status), 0.5)
    found = samples(metrics)
    assert found[names.REQUESTS, ("200", "chat.completions", "m")] == 2
    assert found[names.REQUESTS, ("404", "chat.completions", "m")] == 1
    assert found[f"{names.REQUEST_SECONDS}_sum", ("chat.completions", "m")] == 1.5


def test_first_bytes_count_for_successes_and_first_tokens_for_streams() -> None:
    metrics = rig()
    metrics.observe(exchange(first_byte_s=0.25), 1.0)
    metrics.observe(exchange(first_byte_s=0.75, stream=True), 1.0)
    metrics.observe(exchange(first_byte_s=9.0, status=500), 9.0)
    found = samples(metrics)
    assert found[f"{names.TIME_TO_FIRST_BYTE_SECONDS}_count", ("chat.completions", "m")] == 2
    assert found[f"{names.GEN_AI_TIME_TO_FIRST_TOKEN_SECONDS}_count", ("chat.completions", "m")] == 1
    assert found[f"{names.GEN_AI_TIME_TO_FIRST_TOKEN_SECONDS}_sum", ("chat.completions", "m")] == 0.75


def test_holds_retries_and_broken_answers() -> None:
    metrics = rig()
    metrics.observe(exchange(held=True, queue_s=1.0, wake_s=2.0, retries=2, broken=True), 4.0)
    metrics.observe(exchange(), 1.0)
    found = samples(metrics)
    assert found[f"{names.HOLD_SECONDS}_count", ("m",)] == 1
    assert found[f"{names.HOLD_SECONDS}_sum", ("m",)] == 3.0
    assert found[names.UPSTREAM_RETRIES, ("m",)] == 2
    assert found[names.BROKEN_ANSWERS, ("m",)] == 1


def test_loads_are_asked_at_the_scrape() -> None:
    loads = {ModelId("m"): (3, 5)}
    metrics = rig(loads)
    assert samples(metrics)[names.IN_FLIGHT_REQUESTS, ("m",)] == 3
    loads[ModelId("m")] = (0, 1)
    found = samples(metrics)
    assert found[names.IN_FLIGHT_REQUESTS, ("m",)] == 0
    assert found[names.HELD_REQUESTS, ("m",)] == 1
    assert found[names.ROUTES_VERSION, ()] == 7
    assert found[names.STORE_UP, ()] == 1


def test_the_controllers_figures_are_shown_beside_the_workers_own() -> None:
    meters = ControlMeters(
        bounds_s=(0.1, 1.0),
        transitions=(
            TransitionMeter(model_id="m", transition="start", tier="disk", counts=(0, 2, 3), sum_s=4.5),
            TransitionMeter(model_id="m", transition="wake", tier="host", counts=(5, 5, 5), sum_s=0.1),
        ),
        quarantined={"m": 2},
        lost={"m": 4},
        excess_bytes={"m": 1 << 20},
    )
    found = samples(rig(), meters)
    assert found[f"{names.TRANSITION_SECONDS}_bucket", ("1", "m", "disk", "start")] == 2
    assert found[f"{names.TRANSITION_SECONDS}_bucket", ("+Inf", "m", "disk", "start")] == 3
    assert found[f"{names.TRANSITION_SECONDS}_sum", ("m", "disk", "start")] == 4.5
    assert found[f"{names.TRANSITION_SECONDS}_count", ("m", "host", "wake")] == 5
    assert found[names.QUARANTINED, ("m",)] == 2
    assert found[names.REPLICAS_LOST, ("m",)] == 4
    assert found[names.FOOTPRINT_EXCESS_BYTES, ("m",)] == 1 << 20
    assert found[names.ROUTES_VERSION, ()] == 7, "and the worker's are there as well"
    assert not any(name.startswith(names.TRANSITION_SECONDS) for name, _ in samples(rig()))


def test_admin_calls_and_probes_are_counted_but_not_timed() -> None:
    metrics = rig()
    metrics.observe(Exchange("r", "GET", "/whatever/somebody/asks", started_s=0.0, status=404), 1.0)
    found = samples(metrics)
    assert found[names.REQUESTS, ("404", "other", "unknown")] == 1
    assert f"{names.REQUEST_SECONDS}_count" not in {name for name, _ in found}
    assert "somebody" not in metrics.render().decode()


def test_where_the_time_went_is_told_by_stage() -> None:
    metrics = rig()
    metrics.observe(exchange(key_id="key_1", auth_s=0.25, held=True, queue_s=1.0, wake_s=2.0), 4.0)
    metrics.observe(exchange(key_id="key_1", auth_s=0.25, connect_s=0.5, engine_s=1.5, endpoint="completions"), 4.0)
    metrics.observe(exchange(status=401), 0.1)
    found = samples(metrics)
    name = names.REQUEST_STAGE_SECONDS
    sums = {stage: found[f"{name}_sum", ("m", stage)] for stage in names.STAGES}
    assert sums == {"auth": 0.5, "queue": 1.0, "wake": 2.0, "connect": 0.5, "engine-ttfb": 1.5}
    assert found[f"{name}_count", ("m", "auth")] == 2, "nobody was recognised in the third"
    assert found[f"{name}_count", ("m", "queue")] == 1
    assert found[f"{name}_bucket", ("0.25", "m", "auth")] == 2
    assert found[f"{name}_bucket", ("0.1", "m", "auth")] == 0


def test_tokens_are_counted_as_engines_tell_them() -> None:
    metrics = rig()
    metrics.observe(exchange(usage=Usage(prompt=100, completion=20, cached=64)), 1.0)
    metrics.observe(exchange(usage=Usage(prompt=10, completion=5)), 1.0)
    metrics.observe(exchange(), 1.0)
    found = samples(metrics)
    place = ("chat.completions", "m")
    assert found[names.PROMPT_TOKENS, place] == 110
    assert found[names.COMPLETION_TOKENS, place] == 25
    assert found[names.CACHED_PROMPT_TOKENS, place] == 64


def test_streams_are_timed_per_further_token() -> None:
    metrics = rig()
    metrics.observe(exchange(stream=True, first_byte_s=1.0, usage=Usage(prompt=1, completion=11)), 3.0)
    metrics.observe(exchange(stream=True, first_byte_s=1.0, usage=Usage(prompt=1, completion=1)), 3.0)
    metrics.observe(exchange(first_byte_s=1.0, usage=Usage(prompt=1, completion=11)), 3.0)
    found = samples(metrics)
    place = ("chat.completions", "m")
    assert found[f"{names.GEN_AI_TIME_PER_OUTPUT_TOKEN_SECONDS}_count", place] == 1
    assert found[f"{names.GEN_AI_TIME_PER_OUTPUT_TOKEN_SECONDS}_sum", place] == pytest.approx(0.2)


@given(st.lists(st.floats(0, 400), max_size=50))
def test_histograms_are_those_of_the_library(durations_s: list[float]) -> None:
    """The text is that of prometheus_client's own counters, which take ten times as long."""
    metrics, registry = rig(), CollectorRegistry()
    usual = LibraryHistogram(
        names.REQUEST_SECONDS, "From the request's head to the last byte.", ("model", "endpoint"), registry=registry,
        buckets=SECONDS,
    )  # fmt: skip
    for duration_s in durations_s:
        metrics.observe(exchange(), duration_s)
        usual.labels("m", "chat.completions").observe(duration_s)
    wanted = [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
    shown = [line for line in metrics.render().decode().splitlines() if names.REQUEST_SECONDS in line]
    assert [line.rpartition(" ")[0] for line in shown] == [line.rpartition(" ")[0] for line in wanted]
    values = [float(line.rpartition(" ")[2]) for line in shown if line[0] != "#"]
    assert values == pytest.approx([float(line.rpartition(" ")[2]) for line in wanted if line[0] != "#"])


def test_every_name_is_ours_or_opentelemetrys_and_says_its_unit() -> None:
    own = [
        value
        for name, value in vars(names).items()
        if name.isupper() and name not in ("CONTENT_TYPE", "OTHER_ENDPOINT") and isinstance(value, str)
    ]
    assert len(own) >= 10
    for name in own:
        assert re.fullmatch(r"roundhouse_[a-z_]+|gen_ai_[a-z_]+_seconds", name), name
