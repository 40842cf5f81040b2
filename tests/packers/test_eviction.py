"""LRU chooses among those who may go: on one GPU, as few as needed, the longest unused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packers.eviction import EVICTION, Eviction, Harm, Shelf, Victim, lru
from packers.types import ReplicaState
from tests.packers.worlds import ASLEEP, MIB, READY, gpus, replica


def victim(
    name: str,
    mib: int,
    last_use_s: float,
    *,
    priority: int = 0,
    state: ReplicaState = READY,
    harm: Harm = Harm.NONE,
) -> Victim:
    return Victim(replica(name, "n/0", mib), state is ASLEEP, mib * MIB, last_use_s, priority, harm)


def shelf(gpu: str, needs: int, free: int, *victims: Victim, wakes: bool = False) -> Shelf:
    (there,) = gpus({gpu: 1000})
    sleeper = replica("own", gpu, state=ASLEEP) if wakes else None
    return Shelf(there, needs * MIB, free * MIB, sleeper, victims)


def chosen(*shelves: Shelf) -> tuple[str, list[str]]:
    best = lru(shelves)[0]
    return best.shelf.gpu.id, [victim.replica.model for victim in best.victims]


def test_the_longest_unused_goes_first() -> None:
    assert chosen(shelf("n/0", 40, 0, victim("new", 40, 90), victim("old", 40, 10))) == ("n/0", ["old"])


def test_no_more_go_than_needed() -> None:
    small, large, newest = victim("small", 10, 10), victim("large", 50, 20), victim("newest", 50, 30)
    assert chosen(shelf("n/0", 50, 0, small, large, newest)) == ("n/0", ["large"]), "small alone is of no use"
    assert chosen(shelf("n/0", 60, 0, small, large, newest)) == ("n/0", ["small", "large"])
    assert chosen(shelf("n/0", 60, 10, small, large, newest)) == ("n/0", ["large"])


def test_lower_priority_goes_first_however_recently_used() -> None:
    assert chosen(shelf("n/0", 40, 0, victim("vip", 40, 1, priority=5), victim("plain", 40, 99))) == ("n/0", ["plain"])


def test_sleepers_go_after_ready_ones_and_those_kept_by_min_replicas_last() -> None:
    asleep, ready = victim("asleep", 40, 1, state=ASLEEP), victim("ready", 40, 99)
    waiting = victim("waiting", 40, 1, state=ASLEEP, harm=Harm.WAITING)
    minimum = victim("minimum", 40, 1, harm=Harm.MINIMUM)
    everyone = (minimum, waiting, asleep, ready)
    assert chosen(shelf("n/0", 40, 0, *everyone)) == ("n/0", ["ready"])
    assert chosen(shelf("n/0", 80, 0, *everyone)) == ("n/0", ["ready", "asleep"])
    assert chosen(shelf("n/0", 120, 0, *everyone)) == ("n/0", ["ready", "asleep", "waiting"])


def test_the_gpu_whose_latest_victim_was_used_longest_ago_wins() -> None:
    two = shelf("n/0", 80, 0, victim("oldest", 40, 1), victim("young", 40, 50))
    one = shelf("n/1", 80, 0, victim("middle", 80, 40))
    assert chosen(two, one) == ("n/1", ["middle"])


def test_then_the_fewest_victims_then_the_smaller_id() -> None:
    pair = shelf("n/0", 80, 0, victim("a", 40, 1), victim("b", 40, 40))
    single = shelf("n/2", 80, 0, victim("c", 80, 40))
    twin = shelf("n/1", 80, 0, victim("d", 80, 40))
    assert chosen(pair, single) == ("n/2", ["c"])
    assert chosen(pair, single, twin) == ("n/1", ["d"])


def test_least_harm_then_lowest_priority_decide_between_gpus_first() -> None:
    minimum = shelf("n/0", 40, 0, victim("minimum", 40, 1, harm=Harm.MINIMUM))
    vip = shelf("n/1", 40, 0, victim("vip", 40, 2, priority=3))
    plain = shelf("n/2", 40, 0, victim("plain", 40, 99))
    assert chosen(minimum, vip, plain) == ("n/2", ["plain"])
    assert chosen(minimum, vip) == ("n/1", ["vip"])


def test_waking_beats_starting_among_equals() -> None:
    start = shelf("n/0", 40, 0, victim("old", 40, 1))
    wake = shelf("n/1", 40, 0, victim("young", 40, 99), wakes=True)
    assert chosen(start, wake) == ("n/1", ["young"])


def test_nothing_helps_when_all_together_are_too_small() -> None:
    assert lru([shelf("n/0", 90, 0, victim("a", 40, 1), victim("b", 40, 2))]) == ()
    assert lru([]) == ()


def test_the_score_is_the_latest_use_and_the_others_follow() -> None:
    first, second = lru([shelf("n/1", 40, 0, victim("b", 40, 7)), shelf("n/0", 40, 0, victim("a", 40, 5))])
    assert (first.shelf.gpu.id, first.score, second.score) == ("n/0", 5, 7)
    assert "least recently used" in first.why


def test_slack_is_what_stays_free_when_all_are_stopped() -> None:
    (only,) = lru([shelf("n/0", 50, 5, victim("a", 60, 1))])
    assert only.slack_bytes == 15 * MIB


SHELVES = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.lists(
            st.tuples(
                st.integers(1, 60), st.integers(0, 5), st.integers(0, 2), st.booleans(), st.sampled_from(list(Harm))
            ),
            max_size=5,
        ),
    ),
    max_size=4,
)


@given(SHELVES, st.integers(31, 120), st.sampled_from(sorted(EVICTION)))
def test_every_eviction_makes_room_and_no_victim_of_it_is_needless(
    rows: list[tuple[int, list[tuple[int, int, int, bool, Harm]]]], needs: int, policy: str
) -> None:
    shelves = [
        shelf(
            f"n/{place}",
            needs,
            free,
            *(
                victim(f"m{i}", mib, used, priority=rank, state=ASLEEP if sleeps else READY, harm=harm)
                for i, (mib, used, rank, sleeps, harm) in enumerate(victims)
            ),
        )
        for place, (free, victims) in enumerate(rows)
    ]
    found = EVICTION[policy](shelves)
    possible = [
        one.gpu.id for one in shelves if one.free_bytes + sum(v.frees_bytes for v in one.victims) >= one.needs_bytes
    ]
    assert sorted(eviction.shelf.gpu.id for eviction in found) == possible
    assert found == EVICTION[policy](shelves[::-1])
    for eviction in found:
        _check_minimal(eviction)


def _check_minimal(eviction: Eviction) -> None:
    assert eviction.slack_bytes >= 0
    assert set(eviction.victims) <= set(eviction.shelf.victims)
    for one in eviction.victims:
        assert eviction.slack_bytes < one.frees_bytes
