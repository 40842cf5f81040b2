"""Sizes and durations: what people write is read exactly, what cannot be read says how to write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog.errors import UnitError
from models.catalog.units import (
    BYTE_UNITS,
    MOST_BYTES,
    MOST_SECONDS,
    format_bytes,
    format_seconds,
    parse_bytes,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (0, 0),
        (4096, 4096),
        ("4096", 4096),
        ("0B", 0),
        ("512MiB", 512 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("1 GiB", 2**30),
        (" 2GB ", 2 * 10**9),
        ("250 MB", 250 * 10**6),
        ("3KB", 3000),
        ("3KiB", 3072),
        ("1TiB", 2**40),
        ("2TB", 2 * 10**12),
        ("1gib", 2**30),
        ("1Gib", 2**30),
        ("10b", 10),
        ("0.5B", 0),
        ("0.3KB", 300),
    ],
)
def test_sizes_are_read(written, read):
    assert parse_bytes(written) == read


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1G", "did you mean GB or GiB?"),
        ("1Gi", "did you mean GiB?"),
        ("1k", "did you mean KB or KiB?"),
        ("1GiBB", "unknown unit 'GiBB'; write a size like"),
        ("one GiB", "not a size"),
        ("", "not a size"),
        ("GiB", "not a size"),
        ("-1GiB", "not a size"),
        ("1e9", "unknown unit 'e'|not a size"),
        ("1,5GiB", "not a size"),
        ("1GiB extra", "not a size"),
        ("٣GiB", "not a size"),
        (-1, "negative"),
        (True, "not a size"),
        (1.5, "not a size"),
        (None, "not a size"),
        ([1], "not a size"),
        ("99999999999TiB", "larger than any memory"),
        (2**63, "larger than any memory"),
    ],
)
def test_what_is_no_size_says_how_to_write_one(written, said):
    with pytest.raises(UnitError, match=said):
        parse_bytes(written)


@given(st.integers(0, MOST_BYTES // 2**40), st.sampled_from(sorted(BYTE_UNITS)))
def test_whole_numbers_of_a_unit_are_exact(count, unit):
    assert parse_bytes(f"{count}{unit}") == count * BYTE_UNITS[unit]


@given(st.integers(0, 2**62))
def test_a_formatted_size_reads_back_within_half_a_percent(size_bytes):
    assert parse_bytes(format_bytes(size_bytes)) == pytest.approx(size_bytes, rel=0.005)


@given(st.integers(1, 1023), st.sampled_from(["KiB", "MiB", "GiB", "TiB"]))
def test_round_sizes_read_back_exactly(count, unit):
    size_bytes = count * BYTE_UNITS[unit]
    assert format_bytes(size_bytes) == f"{count} {unit}"
    assert parse_bytes(format_bytes(size_bytes)) == size_bytes


@given(st.text(max_size=20) | st.integers() | st.floats() | st.none() | st.booleans())
def test_any_value_is_read_or_refused_with_a_cure(value):
    for parse in (parse_bytes, parse_seconds):
        try:
            read, cure = parse(value), ""
        except UnitError as error:
            read, cure = -1, error.cure
        assert (read >= 0) != bool(cure)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (3 * 2**29, "1.5 GiB"),
        (10**9, "953.67 MiB"),
        (-(2**20), "-1 MiB"),
    ],
)
def test_sizes_are_formatted_for_people(size_bytes, text):
    assert format_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (0, 0.0),
        (1.5, 1.5),
        ("500ms", 0.5),
        ("10s", 10.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("90", 90.0),
        (" 0.5 h ", 1800.0),
    ],
)
def test_durations_are_read(written, read):
    assert parse_seconds(written) == read


@pytest.mark.parametrize(
    "written",
    ["", "10 minutes", "5M", "-1s", "1h30m", -1, True, None, float("nan"), float("inf"), MOST_SECONDS * 2, 10**400],
)
def test_what_is_no_duration_says_how_to_write_one(written):
    with pytest.raises(UnitError, match="write a duration like 500ms, 10s, 5m or 2h"):
        parse_seconds(written)


@given(st.floats(0.001, MOST_SECONDS))
def test_a_formatted_duration_reads_back_to_the_millisecond(seconds):
    assert parse_seconds(format_seconds(seconds)) == pytest.approx(seconds, abs=0.0006)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (1.5, "1.5s"), (60, "1m"), (90, "90s"), (600, "10m"), (7200, "2h")],
)
def test_durations_are_formatted_for_people(seconds, text):
    assert format_seconds(seconds) == text
