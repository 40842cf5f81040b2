"""What the next replica reserves: as declared, else as measured, and never less than was held."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from models.catalog.footprint import SIMULATED, Declared
from models.control.footprints import (
    LIVES_KEPT,
    FootprintBook,
    Held,
    Learned,
    Revision,
    exceeds,
    grown,
    judge,
)
from models.runtimes.protocol import Measured
from packers.types import Footprint, ReplicaId

MIB = 1 << 20
R = Revision("r")
DECLARED = Declared(weights=20 * MIB, kv_cache=40 * MIB, overhead=20 * MIB, residue=0, host=20 * MIB)
GUESSED = Declared(kv_cache=40 * MIB)


def said(declared: Declared, on_disk_mib: int = 20) -> Footprint:
    return declared.footprint(on_disk_mib * MIB, "vllm", SIMULATED)


def held(weights: int, kv: int, overhead: int) -> Held:
    return Held(weights * MIB, kv * MIB, overhead * MIB)


def learned(*lives: Held, served: bool = True, residue: int | None = None) -> Learned:
    named = {f"a-{number}": one for number, one in enumerate(lives)}
    return Learned(
        lives=named, served=tuple(named) if served else (), residue_bytes=None if residue is None else residue * MIB
    )


def test_until_something_was_measured_the_card_counts() -> None:
    judged = judge(GUESSED, said(GUESSED), Learned())
    assert judged.footprint == said(GUESSED)
    assert judged.origins == {
        "weights": "estimated",
        "kv_cache": "declared",
        "overhead": "estimated",
        "residue": "estimated",
        "host": "estimated",
    }


def test_estimates_give_way_to_what_was_measured_and_so_does_the_host_ram_that_follows_the_weights() -> None:
    judged = judge(GUESSED, said(GUESSED), learned(held(15, 40, 30)))
    assert judged.footprint == Footprint(15 * MIB, 40 * MIB, 30 * MIB, 0, 15 * MIB)
    assert (judged.origins["weights"], judged.origins["overhead"]) == ("measured", "measured")
    assert judged.excess_bytes == 0


def test_an_engine_that_has_not_served_yet_may_still_grow_so_its_estimate_only_rises() -> None:
    fresh = judge(GUESSED, said(GUESSED), learned(held(15, 40, 30), served=False))
    assert fresh.footprint == said(GUESSED)
    larger = judge(GUESSED, said(GUESSED), learned(held(15, 40, 90), served=False))
    assert larger.footprint.overhead_bytes == 90 * MIB


def test_what_is_declared_wins_while_all_of_it_together_suffices() -> None:
    """More overhead than declared, but less of the rest: the operator has declared enough."""
    judged = judge(DECLARED, said(DECLARED), learned(held(10, 40, 30)))
    assert judged.footprint == said(DECLARED)


def test_a_card_that_says_too_little_is_corrected_by_kind_and_the_excess_is_told() -> None:
    judged = judge(DECLARED, said(DECLARED), learned(held(50, 40, 10)))
    assert judged.footprint == Footprint(50 * MIB, 40 * MIB, 20 * MIB, 0, 20 * MIB)
    assert judged.excess_bytes == 20 * MIB
    assert (judged.origins["weights"], judged.origins["overhead"]) == ("measured", "declared")


def test_the_wish_for_kv_cache_is_an_order_and_does_not_shrink_to_what_was_given() -> None:
    judged = judge(GUESSED, said(GUESSED), learned(held(20, 5, 64)))
    assert judged.footprint.kv_cache_bytes == 40 * MIB


def test_the_residue_of_sleeping_ones_is_learned_too() -> None:
    assert judge(GUESSED, said(GUESSED), learned(residue=7)).footprint.residue_bytes == 7 * MIB
    assert judge(DECLARED, said(DECLARED), learned(residue=1)).footprint.residue_bytes == 0, "within the tolerance"
    assert judge(DECLARED, said(DECLARED), learned(residue=3)).footprint.residue_bytes == 3 * MIB


def test_two_percent_and_a_mebibyte_are_let_pass() -> None:
    assert not exceeds(102 * MIB, 100 * MIB)
    assert exceeds(102 * MIB + 1, 100 * MIB)
    assert not exceeds(MIB, 0)
    assert exceeds(MIB + 1, 0)


def test_what_a_driver_counts_beyond_the_engines_own_word_is_overhead() -> None:
    of = Measured(weights_bytes=10, kv_cache_bytes=20, rss_bytes=1, overhead_bytes=5)
    assert Held.of(of) == Held(10, 20, 5)
    assert Held.of(msgspec.structs.replace(of, device_bytes=50)) == Held(10, 20, 20)
    assert Held.of(msgspec.structs.replace(of, device_bytes=30)) == Held(10, 20, 5)


def test_the_book_keeps_the_highest_of_each_of_the_last_lives() -> None:
    book = FootprintBook()
    book.learn(R, ReplicaId("a-0"), held(99, 1, 1), served=True)
    for number in range(1, LIVES_KEPT + 1):
        book.learn(R, ReplicaId(f"a-{number}"), held(number, 1, 1), served=False)
        book.learn(R, ReplicaId(f"a-{number}"), held(1, 2, 1), served=False)
    known = book.get(R)
    assert known is not None
    assert list(known.lives) == [f"a-{number}" for number in range(1, LIVES_KEPT + 1)]
    assert known.highest() == held(LIVES_KEPT, 2, 1)
    assert known.served == ()


def test_an_unchanged_judgement_stays_the_same_object_and_news_change_it() -> None:
    book = FootprintBook()
    first = book.judged(R, GUESSED, said(GUESSED))
    assert book.judged(R, GUESSED, said(GUESSED)) is first
    book.learn(R, ReplicaId("a-1"), held(20, 40, 64), served=True)
    second = book.judged(R, GUESSED, said(GUESSED))
    assert second is not first
    book.learn(R, ReplicaId("a-1"), held(20, 40, 64), served=True)
    assert book.judged(R, GUESSED, said(GUESSED)) is second


def test_what_was_measured_of_other_revisions_is_forgotten() -> None:
    book = FootprintBook()
    for name in ("r", "s"):
        book.learn(Revision(name), ReplicaId("a-1"), held(1, 1, 1), served=True)
    book.keep([Revision("s")])
    assert book.get(R) is None
    assert book.get(Revision("s")) is not None


def test_it_outlives_a_controller() -> None:
    old, new = FootprintBook(), FootprintBook()
    old.learn(R, ReplicaId("a-1"), held(1, 2, 3), served=True)
    old.learn_residue(R, 5)
    new.recall(msgspec.json.decode(msgspec.json.encode(old.remembered()), type=dict[str, Learned]))
    assert new.get(R) == old.get(R)


sizes = st.integers(0, 200)
lives = st.lists(st.builds(held, sizes, sizes, sizes), max_size=4)
maybe = st.none() | sizes.map(lambda mib: mib * MIB)


@given(st.builds(Declared, weights=maybe, kv_cache=maybe, overhead=maybe), lives, st.booleans(), sizes)
def test_the_next_replica_never_reserves_too_little(
    declared: Declared, seen: list[Held], served: bool, on_disk_mib: int
) -> None:
    card = said(declared, on_disk_mib)
    judged = judge(declared, card, learned(*seen, served=served))
    for one in seen:
        assert not exceeds(one.gpu_bytes, judged.footprint.gpu_bytes)
    assert judged.footprint.kv_cache_bytes >= card.kv_cache_bytes
    if declared.weights is not None:
        assert judged.footprint.weights_bytes >= declared.weights
    assert (judged.excess_bytes > 0) == any(
        exceeds(learned(*seen).highest().gpu_bytes, card.gpu_bytes) for _ in seen[:1]
    )


@given(st.builds(held, sizes, sizes, sizes), st.builds(held, sizes, sizes, sizes))
def test_growing_covers_what_was_held_and_takes_nothing_away(before: Held, now: Held) -> None:
    footprint = Footprint(before.weights_bytes, before.kv_cache_bytes, before.overhead_bytes, host_bytes=3)
    after = grown(footprint, now)
    assert after.gpu_bytes >= max(before.gpu_bytes, now.gpu_bytes)
    assert after.host_bytes == 3
