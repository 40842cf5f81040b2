"""How many streams can be open is a matter of descriptors; what each takes is the growth of all processes."""

from __future__ import annotations

import pytest

from loadtests.gateway.family import Usage
from loadtests.gateway.open_streams import Held, reachable


@pytest.mark.parametrize(("descriptors", "streams"), [(1_000_000, 10_000), (20_000, 9_800), (1024, 312), (256, 0)])
def test_each_stream_takes_two_descriptors_of_the_gateway(descriptors: int, streams: int) -> None:
    assert reachable(10_000, descriptors) == streams


def test_memory_each_is_the_growth_over_all_streams() -> None:
    held = Held(
        10_000, 0, "", before=Usage(2, 1.0, 60_000_000, 50_000_000, 20), during=Usage(2, 3.0, 160_000_000, 9, 9)
    )
    assert held.bytes_per_stream == 10_000
