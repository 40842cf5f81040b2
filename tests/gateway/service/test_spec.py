"""Parts in order: what is needed starts first and ends last."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.service.spec import PartSpec, check, start_layers, stop_layers


async def yes() -> bool:
    return True


def part(name: str, **changes: object) -> PartSpec:
    return PartSpec(name=name, what=name, command=(name,), ready=yes, **changes)  # type: ignore[arg-type]


PARTS = (
    part("gateway", needs=("redis",)),
    part("control", needs=("redis", "ray")),
    part("launcher", outlives=("control",)),
    part("redis"),
    part("ray"),
)


def test_layers_of_the_service() -> None:
    assert start_layers(PARTS) == (("launcher", "redis", "ray"), ("gateway", "control"))
    assert stop_layers(PARTS) == (("gateway", "control"), ("launcher", "redis", "ray"))


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ((part("a"), part("a")), "two parts share a name: a, a"),
        ((part("a", needs=("b",)),), "a refers to 'b', which is not a part"),
        ((part("a", outlives=("c",)),), "a refers to 'c', which is not a part"),
        ((part("a", needs=("b",)), part("b", needs=("a",)), part("c")), "these parts wait for each other: a, b"),
    ],
)
def test_parts_that_cannot_be_put_in_order(parts: tuple[PartSpec, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check(parts)


@st.composite
def acyclic(draw: st.DrawFn) -> tuple[PartSpec, ...]:
    """Each part needs some of those before it; then they are shuffled."""
    count = draw(st.integers(1, 8))
    parts = [
        part(
            f"p{n}",
            needs=tuple(sorted(draw(st.sets(st.sampled_from([f"p{m}" for m in range(n)]), max_size=3)))) if n else (),
        )
        for n in range(count)
    ]
    return tuple(draw(st.permutations(parts)))


@given(acyclic())
def test_in_any_order_needs_come_first_and_end_last(parts: tuple[PartSpec, ...]) -> None:
    starts = {name: depth for depth, layer in enumerate(start_layers(parts)) for name in layer}
    stops = {name: depth for depth, layer in enumerate(stop_layers(parts)) for name in layer}
    assert starts.keys() == stops.keys() == {each.name for each in parts}
    for each in parts:
        assert all(starts[needed] < starts[each.name] for needed in each.needs)
        assert all(stops[needed] > stops[each.name] for needed in each.needs)
