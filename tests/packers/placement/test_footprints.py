"""Where a new replica goes, and what is said when it goes nowhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.ledger import Ledger
from packers.placement import CANDIDATES_SHOWN, PLACEMENT, Placement, best_fit, first_fit
from packers.types import GpuId, ModelId, NoFit, Snapshot
from tests.packers.worlds import MIB, footprint, replica, world

QWEN = ModelId("qwen")


def three_gpus() -> Snapshot:
    """Free: 100, 40 and 60 MiB."""
    return world({"n/0": 100, "n/1": 100, "n/2": 100}, [], [replica("x", "n/1", 60), replica("y", "n/2", 40)])


def test_best_fit_takes_the_gpu_that_keeps_the_least() -> None:
    there = three_gpus()
    placed = best_fit(footprint(35), there.gpus, Ledger.of(there), QWEN)
    assert isinstance(placed, Placement)
    assert (placed.gpu, placed.free_bytes) == ("n/1", 40 * MIB)
    assert [(one.gpu, one.score) for one in placed.candidates] == [
        ("n/1", 5 * MIB),
        ("n/2", 25 * MIB),
        ("n/0", 65 * MIB),
    ]


def test_first_fit_takes_the_first_by_id_whatever_the_order() -> None:
    there = three_gpus()
    placed = first_fit(footprint(35), there.gpus[::-1], Ledger.of(there), QWEN)
    assert isinstance(placed, Placement)
    assert placed.gpu == "n/0"


@pytest.mark.parametrize("policy", sorted(PLACEMENT))
def test_ties_go_to_the_smaller_id(policy: str) -> None:
    there = world({"n/1": 100, "n/0": 100, "m/3": 100})
    placed = PLACEMENT[policy](footprint(10), there.gpus, Ledger.of(there), QWEN)
    assert isinstance(placed, Placement)
    assert placed.gpu == "m/3"


def test_rejected_gpus_are_shown_with_why_closest_first() -> None:
    there = world({"n/0": 100, "n/1": 30, "n/2": 100}, [], [replica("x", "n/2", 60)])
    placed = best_fit(footprint(50), there.gpus, Ledger.of(there), QWEN)
    assert isinstance(placed, Placement)
    assert [(one.gpu, one.rejected) for one in placed.candidates] == [
        ("n/0", None),
        ("n/2", "10 MiB short"),
        ("n/1", "too small: 30 MiB"),
    ]


def test_a_large_cluster_shows_only_a_few_candidates() -> None:
    there = world({f"n/{place:03}": 100 + place for place in range(200)})
    placed = best_fit(footprint(150), there.gpus, Ledger.of(there), QWEN)
    assert isinstance(placed, Placement)
    assert len(placed.candidates) == CANDIDATES_SHOWN
    assert placed.candidates[0].gpu == placed.gpu == "n/050"


@pytest.mark.parametrize("policy", sorted(PLACEMENT))
def test_no_room_now_names_the_closest_gpu_and_what_is_short(policy: str) -> None:
    there = three_gpus()
    ledger = Ledger.of(there)
    ledger.reserve(replica("z", "n/0").id, ModelId("z"), GpuId("n/0"), 70 * MIB)
    refused = PLACEMENT[policy](footprint(80), there.gpus, ledger, QWEN)
    assert isinstance(refused, NoFit)
    assert (refused.ever, refused.gpu, refused.short_bytes) == (True, "n/2", 20 * MIB)
    assert (refused.needs_bytes, refused.largest_gpu_bytes) == (80 * MIB, 100 * MIB)
    assert (
        refused.reason
        == "qwen needs 80 MiB of GPU memory; n/2 comes closest with 60 MiB free of 100 MiB: 20 MiB short."
    )


@pytest.mark.parametrize("policy", sorted(PLACEMENT))
def test_never_names_the_largest_gpu(policy: str) -> None:
    there = world({"n/0": 1024, "n/1": 2048})
    refused = PLACEMENT[policy](footprint(3584), there.gpus, Ledger.of(there), QWEN)
    assert isinstance(refused, NoFit)
    assert (refused.ever, refused.gpu, refused.short_bytes) == (False, "n/1", 1536 * MIB)
    assert refused.reason == (
        "qwen needs 3.5 GiB of GPU memory, but the largest GPU (n/1) has only 2 GiB: 1.5 GiB short even when empty."
    )


def test_a_gpu_that_is_too_small_is_never_the_closest() -> None:
    there = world({"n/0": 50, "n/1": 100}, [], [replica("x", "n/1", 90)])
    refused = best_fit(footprint(60), there.gpus, Ledger.of(there), QWEN)
    assert isinstance(refused, NoFit)
    assert refused.gpu == "n/1"


def test_without_gpus_nothing_fits() -> None:
    refused = best_fit(footprint(60), (), Ledger((), ()))
    assert isinstance(refused, NoFit)
    assert (refused.ever, refused.gpu, refused.largest_gpu_bytes) == (False, None, 0)
    assert "no GPU" in refused.reason


@given(
    st.lists(st.tuples(st.integers(1, 100), st.integers(0, 100)), min_size=1, max_size=8),
    st.integers(1, 110),
    st.sampled_from(sorted(PLACEMENT)),
)
def test_a_policy_places_whenever_there_is_room_and_only_then(
    sizes: list[tuple[int, int]], needs: int, policy: str
) -> None:
    there = world({f"n/{place}": total for place, (total, _) in enumerate(sizes)})
    ledger = Ledger.of(there)
    for gpu, (total, used) in zip(there.gpus, sizes, strict=True):
        ledger.reserve(replica(f"x-{gpu.index}", gpu.id).id, ModelId("x"), gpu.id, min(total, used) * MIB)
    answer = PLACEMENT[policy](footprint(needs), there.gpus, ledger, QWEN)
    most_free = max(ledger.free_gpu(gpu.id) for gpu in there.gpus)
    if isinstance(answer, Placement):
        assert ledger.free_gpu(answer.gpu) >= needs * MIB
        assert answer == PLACEMENT[policy](footprint(needs), there.gpus[::-1], ledger, QWEN)
    else:
        assert most_free < needs * MIB
        assert answer.ever == any(total >= needs for total, _ in sizes)
        assert answer.short_bytes > 0
