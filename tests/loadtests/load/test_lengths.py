"""Distributions of lengths, by the text that names them."""

from __future__ import annotations

import random
import statistics

import pytest

from loadtests.load.lengths import LengthsError, read_lengths


def drawn(text: str, count: int = 4000) -> list[int]:
    rng = random.Random(1)
    lengths = read_lengths(text)
    return [lengths(rng) for _ in range(count)]


def test_fixed_and_uniform() -> None:
    assert set(drawn("fixed:64", 10)) == {64}
    assert set(drawn("uniform:3-5")) == {3, 4, 5}


def test_a_lognormal_has_the_mean_and_the_spread_that_it_is_told() -> None:
    found = drawn("lognormal:mean=200,cv=0.8", 20_000)
    assert statistics.mean(found) == pytest.approx(200, rel=0.03)
    assert statistics.stdev(found) / statistics.mean(found) == pytest.approx(0.8, rel=0.08)


def test_a_lognormal_can_be_bounded() -> None:
    assert max(drawn("lognormal:mean=50,cv=2,most=100")) == 100
    assert min(drawn("lognormal:mean=1,cv=3")) == 1


def test_choices_by_weight() -> None:
    found = drawn("choice:16*3,256")
    assert found.count(16) / len(found) == pytest.approx(0.75, abs=0.03)
    assert set(found) == {16, 256}


@pytest.mark.parametrize(
    "text",
    ["", "64", "fixed:0", "fixed:x", "uniform:5-3", "uniform:5", "lognormal:cv=1", "lognormal:mean=5,what=1",
     "lognormal:mean=nan", "choice:", "choice:1*-1", "choice:1*0", "choice:1*2*3", "poisson:3"],
)  # fmt: skip
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(LengthsError, match="none of fixed:64"):
        read_lengths(text)
