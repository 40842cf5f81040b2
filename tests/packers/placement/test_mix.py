"""What is expected to come: a histogram that is refreshed rarely, and the same whatever the order of arrival."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.placement import Ask, Mix, PlacementError, Share
from packers.placement.mix import FIRST_REFRESH, GROWTH, KINDS_KEPT
from tests.packers.placement.clusters import asks

SMALL, LARGE = Ask(compute_milli=100), Ask(8, compute_milli=1000)


def test_the_first_ask_is_known_at_once() -> None:
    mix = Mix()
    assert (mix.version, mix.shares) == (0, ())
    mix.see(SMALL)
    assert (mix.version, mix.shares) == (1, (Share(SMALL, 1.0),))


def test_what_came_is_looked_at_again_when_half_as_many_more_have_come() -> None:
    mix = Mix()
    refreshed = [count for count in range(1, 200) if _sees(mix, SMALL if count % 4 else LARGE)]
    assert refreshed[:2] == [1, FIRST_REFRESH]
    assert all(later >= GROWTH * earlier for earlier, later in pairwise(refreshed))
    shares = {one.ask: one.share for one in mix.shares}
    assert shares[SMALL] == pytest.approx(0.75, abs=0.02)


def _sees(mix: Mix, ask: Ask) -> bool:
    before = mix.version
    mix.see(ask)
    return mix.version > before


@given(st.lists(asks, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_shares_add_up_and_do_not_depend_on_the_order(seen: list[Ask], random: Random) -> None:
    mixed = list(seen)
    random.shuffle(mixed)
    shares = Mix.of(seen).shares
    assert shares == Mix.of(mixed).shares == Mix.of(Counter(mixed)).shares
    assert math.fsum(one.share for one in shares) == pytest.approx(1)
    assert {one.ask for one in shares} == set(seen)


def test_the_rarest_kinds_are_forgotten_beyond_the_limit() -> None:
    mix = Mix(kinds_kept=2)
    for _ in range(3):
        for ask, times in ((SMALL, 5), (LARGE, 3), (Ask(), 1)):
            for _ in range(times):
                mix.see(ask)
    mix.see(SMALL, weight=100)
    assert [one.ask for one in mix.shares] == [SMALL, LARGE]


def test_of_a_mix_that_is_known_nothing_is_forgotten() -> None:
    known = [Ask(cpu_milli=number) for number in range(KINDS_KEPT + 1)]
    assert len(Mix.of(known).shares) == len(known)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
def test_a_weight_is_a_number_of_at_least_zero(weight: float) -> None:
    with pytest.raises(PlacementError, match=r"mix\.weight"):
        Mix().see(SMALL, weight)


def test_what_weighs_nothing_is_not_expected() -> None:
    assert Mix.of({SMALL: 1.0, LARGE: 0.0}).shares == (Share(SMALL, 1.0),)
    assert Mix.of({SMALL: 0.0}).shares == ()
