"""A mix of asks as arrays: what is merged when there are many, what is ruled out, and what the weights add up to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.placement import Ask, Mix
from packers.placement.rule import memory_scale, states_of
from packers.placement.targets import FEW_KINDS, Kind, Targets, coarse
from tests.packers.placement.clusters import GIB, World, asks, cluster, worlds


def targets(*expected: Ask, exponent: float = 0.0, types: dict[str, str] | None = None) -> Targets:
    return Targets(cluster({"a": [80, 80], "b": [40]}, types=types), Mix.of(expected).shares, exponent)


def test_asks_that_differ_only_in_type_or_host_ram_are_of_one_kind() -> None:
    assert (
        len(targets(Ask(gpu_bytes=GIB), Ask(gpu_bytes=GIB, gpu_types=("H100",)), Ask(gpu_bytes=GIB, host_bytes=9))) == 1
    )


def test_a_type_counts_only_on_nodes_that_have_it() -> None:
    there = cluster({"a": [80], "b": [80]}, types={"a": "A10", "b": "T4"})
    found = Targets(there, Mix.of([Ask(compute_milli=9, gpu_types=("A10",)), Ask(compute_milli=9)]).shares)
    on_a, on_b = found.weights[there.kind].sum(axis=1)
    assert (on_a, on_b) == (1.0, 0.5)


def test_a_type_that_no_node_has_counts_nowhere() -> None:
    assert targets(Ask(compute_milli=9, gpu_types=("B200",))).weights.sum() == 0


def test_asks_without_gpu_take_their_part_of_the_weight_but_use_no_room() -> None:
    found = targets(Ask(compute_milli=500), Ask(0, cpu_milli=1000))
    assert len(found) == 1
    assert found.weights.tolist() == [[0.5]]


@pytest.mark.parametrize(("exponent", "shares"), [(0.0, [0.5, 0.5]), (-0.5, [2 / 3, 1 / 3]), (1.0, [0.2, 0.8])])
def test_size_counts_as_told(exponent: float, shares: list[float]) -> None:
    found = targets(Ask(1, compute_milli=1000), Ask(4, compute_milli=1000), exponent=exponent)
    assert found.weights[0].tolist() == pytest.approx(shares)


def test_nothing_expected_is_worth_nothing() -> None:
    there = cluster({"a": [80]})
    usable = Targets(there, ()).usable(states_of(there, np.arange(1), memory_scale(there)))
    assert usable.room.shape == usable.fed.shape == (1, 0)


def test_what_no_cpu_is_asked_for_is_always_fed() -> None:
    there = cluster({"a": [80]}, cpu_milli=2000)
    found = Targets(there, Mix.of([Ask(compute_milli=500), Ask(compute_milli=500, cpu_milli=8000)]).shares)
    usable = found.usable(states_of(there, np.arange(1), memory_scale(there)))
    assert usable.fed.tolist() == [[np.inf, 125.0]]
    assert usable.room.tolist() == [[1000.0, 0.0]]


@given(st.lists(st.integers(1, 80 * GIB), min_size=FEW_KINDS + 1, max_size=160, unique=True))
def test_many_kinds_are_merged_without_losing_weight(sizes: list[int]) -> None:
    found = targets(*(Ask(gpu_bytes=size, cpu_milli=size % 7000) for size in sizes))
    assert len(found) <= FEW_KINDS
    assert found.weights.sum() == pytest.approx(1)


@given(asks, st.sampled_from([4, 8, 16, 64]))
def test_a_coarse_kind_is_never_smaller_and_hardly_larger(ask: Ask, grains: int) -> None:
    exact = Kind(ask.gpus, float(ask.compute_milli), ask.gpu_bytes / (80 * GIB) * 1000, ask.cpu_milli)
    rough = coarse(exact, grains)
    assert rough.gpus == exact.gpus
    for name in ("milli", "memory"):
        assert getattr(exact, name) <= getattr(rough, name) + 1e-9
        assert getattr(rough, name) <= min(1000.0, getattr(exact, name) + 1000 / grains) + 1e-9
    assert exact.cpu_milli <= rough.cpu_milli <= exact.cpu_milli * (1 + 1 / grains) + 1


@given(worlds())
def test_no_more_is_usable_than_is_free(world: World) -> None:
    there = world.cluster()
    states = states_of(there, np.arange(len(there)), memory_scale(there))
    usable = Targets(there, Mix.of(world.asks).shares).usable(states)
    free = np.maximum(np.maximum(states.milli, states.memory), 0).sum(axis=1)
    assert (usable.room <= free[:, None] + 1e-6).all()
    assert (usable.room >= 0).all()
    assert not np.isnan(usable.fed).any()
