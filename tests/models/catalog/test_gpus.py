"""Simulated GPUs by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.catalog.errors import UnitError
from models.catalog.gpus import MOST_GPUS, SimulatedGpu, exact_text, format_gpus, parse_gpus, parse_simulated

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


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1GiB", (SimulatedGpu(GIB),)),
        ("2x4GiB@20GiB/s", (SimulatedGpu(4 * GIB, 20.0 * GIB),) * 2),
        (" 2 x 4GiB @ 20 GiB / s ", (SimulatedGpu(4 * GIB, 20.0 * GIB),) * 2),
        ("1GiB@500MB/S,1x2GiB", (SimulatedGpu(GIB, 5e8), SimulatedGpu(2 * GIB))),
    ],
)
def test_a_bus_is_read_with_its_gpus(written, read):
    assert parse_simulated(written) == read
    assert parse_gpus(written) == tuple(gpu.memory_bytes for gpu in read)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2x4GiB@", "does not say how many bytes a second"),
        (
            "2x4GiB@20GiB",
            "does not say how many bytes a second its bus takes; write the speed of the bus like 2x1GiB@20",
        ),
        ("2x4GiB@20GiB/h", "does not say how many bytes a second"),
        ("2x4GiB@fast/s", "'fast' is not a size"),
        ("2x4GiB@20Gi/s", "unknown unit 'Gi'"),
        ("2x4GiB@0GiB/s", "a bus that takes nothing"),
        ("2x4GiB@1GiB/s@2GiB/s", "does not name GPUs"),
        ("@1GiB/s", "does not name GPUs"),
        ("0x4GiB@1GiB/s", "no GPU or no memory"),
    ],
)
def test_a_bus_that_is_none_says_how_to_write_one(written, said):
    with pytest.raises(UnitError) as caught:
        parse_simulated(written)
    assert said in str(caught.value)
    assert caught.value.cure


@given(st.integers(1, 2**50), st.integers(0, 2**45))
def test_what_is_dumped_is_read_back_to_the_last_byte(memory_bytes, link_bytes_per_s):
    gpu = SimulatedGpu(memory_bytes, float(link_bytes_per_s))
    assert parse_simulated(exact_text(gpu)) == (gpu,)
