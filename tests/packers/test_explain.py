"""Sizes, spans and lists as people read them."""

from __future__ import annotations

import pytest

from packers.explain import GIB, MIB, count, names, size, span


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (512, "512 bytes"),
        (MIB, "1 MiB"),
        (300 * MIB, "300 MiB"),
        (3 * MIB // 2, "1.5 MiB"),
        (GIB, "1 GiB"),
        (GIB + GIB // 2, "1.5 GiB"),
        (80 * GIB, "80 GiB"),
    ],
)
def test_sizes_are_in_the_unit_that_reads_best(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text


@pytest.mark.parametrize(
    ("span_s", "text"),
    [(-1, "0 s"), (0, "0 s"), (0.42, "0.4 s"), (9, "9 s"), (75, "75 s"), (600, "10 min"), (9000, "2.5 h")],
)
def test_spans_are_in_the_unit_that_reads_best(span_s: float, text: str) -> None:
    assert span(span_s) == text


def test_names_are_listed_once_each() -> None:
    assert names([]) == ""
    assert names(["a"]) == "a"
    assert names(["a", "b", "a"]) == "a and b"
    assert names(["c", "a", "b"]) == "c, a and b"


def test_counts_agree_with_their_noun() -> None:
    assert count(1, "request") == "1 request"
    assert count(3, "request") == "3 requests"
