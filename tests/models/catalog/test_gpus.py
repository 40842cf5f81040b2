"""Simulated GPUs by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog.errors import UnitError
from models.catalog.gpus import MOST_GPUS, format_gpus, parse_gpus

GIB = 2**30


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1GiB", (GIB,)),
        ("2x1GiB", (GIB, GIB)),
        ("2X1GiB", (GIB, GIB)),
        (" 2 x 512 MiB ", (GIB // 2, GIB // 2)),
        ("2x1GiB,1x4GiB", (GIB, GIB, 4 * GIB)),
        ("1GiB, 2GiB", (GIB, 2 * GIB)),
        ("3x1.5GiB", (3 * GIB // 2,) * 3),
    ],
)
def test_gpus_are_read(written, read):
    assert parse_gpus(written) == read


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "names no GPUs"),
        ("  ", "names no GPUs"),
        (None, "names no GPUs"),
        (2, "names no GPUs"),
        ("0x1GiB", "no GPU or no memory"),
        ("2x0GiB", "no GPU or no memory"),
        ("x1GiB", "does not name GPUs"),
        ("2x", "does not name GPUs"),
        ("2x1GiB,", "does not name GPUs"),
        ("-2x1GiB", "does not name GPUs"),
        ("2x1Gi", "did you mean GiB"),
        ("2x1x1GiB", "does not name GPUs"),
        ("999999x1GiB", "more than 1024 GPUs"),
    ],
)
def test_what_names_no_gpus_says_how_to(written, said):
    with pytest.raises(UnitError, match=said) as caught:
        parse_gpus(written)
    assert caught.value.cure


@given(st.lists(st.integers(1, 1000).map(lambda count: count * 2**20), min_size=1, max_size=20))
def test_formatted_gpus_read_back(sizes):
    assert parse_gpus(format_gpus(tuple(sizes))) == tuple(sizes)


def test_as_many_gpus_as_allowed():
    assert len(parse_gpus(f"{MOST_GPUS}x1GiB")) == MOST_GPUS
