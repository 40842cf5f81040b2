"""Figures of several workers as one text, which Prometheus' own parser reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.exposition import counted, merge, parse

NASTY = st.text(st.characters(codec="utf-8"), max_size=12)
COUNTS = st.dictionaries(NASTY, st.integers(0, 1 << 40), max_size=4)


disable_created_metrics()  # as the gateway does


def worker(
    requests: dict[str, int] | None = None, held: float = 0.0, seconds: tuple[float, ...] = (), version: int = 0
) -> bytes:
    """As a worker shows it."""
    registry = CollectorRegistry()
    counter = Counter("rh_requests_total", "Requests.", ("model",), registry=registry)
    for model, count in (requests or {}).items():
        counter.labels(model).inc(count)
    Gauge("rh_held", "Held.", registry=registry).set(held)
    histogram = Histogram("rh_seconds", "Seconds.", registry=registry, buckets=(0.1, 1.0))
    for value in seconds:
        histogram.observe(value)
    Gauge("rh_version", "Version.", registry=registry).set(version)
    return generate_latest(registry)


def values(text: bytes) -> dict[tuple[str, str], float]:
    """(sample, label values) -> value, by somebody else's parser."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_one_worker_alone_is_shown_as_it_is() -> None:
    text = worker({"a": 1}, held=2.5, seconds=(0.05,), version=7)
    assert merge((text,)) == text


def test_counters_histograms_and_gauges_add_up() -> None:
    one = worker({"a": 1, "b": 2}, held=1, seconds=(0.05, 0.5))
    two = worker({"b": 3, "c": 4}, held=2, seconds=(0.05, 7.0))
    got = values(merge((one, two)))
    assert [got["rh_requests_total", model] for model in "abc"] == [1, 5, 4]
    assert got["rh_held", ""] == 3
    assert [got["rh_seconds_bucket", bound] for bound in ("0.1", "1.0", "+Inf")] == [2, 3, 4]
    assert got["rh_seconds_sum", ""] == pytest.approx(7.6)


def test_of_a_version_the_smallest_is_shown() -> None:
    texts = [worker(version=version) for version in (9, 7, 8)]
    assert values(merge(texts, least=("rh_version",)))["rh_version", ""] == 7
    assert values(merge(texts))["rh_version", ""] == 24


def test_a_family_is_written_once_with_all_its_samples() -> None:
    text = merge((worker({"a": 1}), worker({"b": 1}))).decode()
    assert text.count("# TYPE rh_requests_total") == text.count("# HELP rh_requests_total") == 1
    lines = [line for line in text.splitlines() if "rh_requests_total" in line]
    start = text.splitlines().index(lines[0])
    assert text.splitlines()[start : start + len(lines)] == lines


def test_what_is_left_of_the_dead_are_their_counts() -> None:
    left = counted(worker({"a": 3}, held=5, seconds=(0.5,), version=7))
    assert set(parse(left)) == {"rh_requests_total", "rh_seconds"}
    assert values(left)["rh_requests_total", "a"] == 3


def test_what_numbers_prometheus_spells_its_own_way() -> None:
    text = b'# TYPE x gauge\nx{a="1"} +Inf\nx{a="2"} -Inf\nx{a="3"} NaN\nx{a="4"} 1e+20\n'
    got = merge((text,))
    assert got.decode().splitlines()[1:] == ['x{a="1"} +Inf', 'x{a="2"} -Inf', 'x{a="3"} NaN', 'x{a="4"} 1e+20']


def test_samples_without_a_head_are_kept() -> None:
    assert merge((b'bare{a="b c"} 1\n', b'bare{a="b c"} 2\n')) == b'bare{a="b c"} 3.0\n'


@given(st.lists(COUNTS, min_size=1, max_size=4))
def test_whatever_labels_hold_the_sums_are_right(workers: list[dict[str, int]]) -> None:
    got = values(merge(worker(each) for each in workers))
    for model in {model for each in workers for model in each}:
        assert got["rh_requests_total", model] == float(sum(each.get(model, 0) for each in workers))
