"""What can be asked for, and what is refused with the field's name."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from packers.placement import ANYWHERE, Ask, PlacementError, Where
from packers.types import NodeId


def test_equal_asks_are_of_one_class_whatever_the_order_of_their_types() -> None:
    one, other = Ask(2, gpu_types=("T4", "A10")), Ask(2, gpu_types=("A10", "T4", "A10"))
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize("field", ["gpus", "gpu_bytes", "compute_milli", "cpu_milli", "host_bytes"])
@pytest.mark.parametrize("value", [-1, math.nan, 1.5, "8"])
def test_what_is_no_whole_number_of_at_least_zero_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(PlacementError, match=rf"ask\.{field} must be a whole number"):
        Ask(**{field: value})


def test_numbers_out_of_an_array_will_do() -> None:
    five: Any = np.int64(5)
    assert Ask(gpu_bytes=five) == Ask(gpu_bytes=5)


def test_a_share_of_no_gpu_is_refused() -> None:
    with pytest.raises(PlacementError, match=r"ask\.gpus is 0"):
        Ask(0, compute_milli=100)


def test_no_limits_on_nodes_is_nothing() -> None:
    assert not ANYWHERE
    assert Where.of(excluded=[NodeId("a")])
