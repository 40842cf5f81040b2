"""Who gets host RAM."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packers.residency import LRU, RESIDENCY, Bid, outbid
from packers.types import Model
from tests.packers.residency.past import used
from tests.packers.worlds import MIB

OURS = RESIDENCY["ours"]


def bid(one: Model, mib: int, last_s: float, priority: int = 0) -> Bid:
    return Bid(one.id, one, priority, mib * MIB, last_s, 0.0)


def names(found: tuple[Bid, ...]) -> list[str]:
    return [one.name for one in found]


def test_under_lru_the_longest_unused_give_way_and_no_more_than_it_takes() -> None:
    me, old, older = (
        bid(used("me", [9.0]), 30, 9.0),
        bid(used("old", [5.0]), 30, 5.0),
        bid(used("older", [1.0]), 30, 1.0),
    )
    assert names(outbid(me, [old, older], 30 * MIB, 10.0, LRU)) == ["older"]
    assert names(outbid(me, [old, older], 31 * MIB, 10.0, LRU)) == ["older", "old"]
    assert outbid(old, [me], 30 * MIB, 10.0, LRU) == ()


def test_where_worths_add_up_two_can_be_worth_more_than_one() -> None:
    times_s = [float(second) for second in range(0, 600, 20)]
    me = bid(used("me", times_s), 60, 580.0)
    twins = [bid(used(name, times_s), 30, 580.0) for name in ("x", "y")]
    faded = [bid(used(name, [0.0, 20.0]), 30, 20.0) for name in ("v", "w")]
    assert outbid(me, twins, 60 * MIB, 600.0, OURS) == ()
    assert names(outbid(me, [*twins, *faded], 60 * MIB, 600.0, OURS)) == ["v", "w"]


def test_lower_priority_gives_way_whatever_it_is_worth() -> None:
    busy = bid(used("busy", range(100)), 30, 99.0, priority=0)
    vip = bid(used("vip", [0.0]), 30, 0.0, priority=1)
    for policy in RESIDENCY.values():
        assert names(outbid(vip, [busy], 30 * MIB, 100.0, policy)) == ["busy"]
        assert outbid(busy, [vip], 30 * MIB, 100.0, policy) == ()


@given(
    st.lists(st.tuples(st.integers(1, 50), st.floats(0, 900), st.integers(0, 1)), max_size=8),
    st.integers(1, 120),
    st.sampled_from(sorted(RESIDENCY)),
)
def test_it_gets_enough_or_nothing_in_any_order(
    rows: list[tuple[int, float, int]], short_mib: int, policy: str
) -> None:
    me = bid(used("me", [950.0]), 40, 950.0)
    others = [bid(used(f"m{n}", [last_s]), mib, last_s, rank) for n, (mib, last_s, rank) in enumerate(rows)]
    found = outbid(me, others, short_mib * MIB, 1_000.0, RESIDENCY[policy])
    assert found == outbid(me, others[::-1], short_mib * MIB, 1_000.0, RESIDENCY[policy])
    if found:
        freed = sum(one.size_bytes for one in found)
        assert freed >= short_mib * MIB
        assert all(freed - one.size_bytes < short_mib * MIB for one in found)
        assert all(one.priority <= me.priority for one in found)
