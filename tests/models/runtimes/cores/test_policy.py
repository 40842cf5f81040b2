"""How many threads a step is worth, and what it gets of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.cores.policy import FREE_TOKENS, THREAD_BYTES, share, wanted

MIB = 1 << 20
SOME_WANTS = st.lists(st.integers(1, 64), min_size=1, max_size=40)
CORES = st.integers(1, 64)


def shares(wants, cores):
    """Of each, while all the others are there."""
    return [share(want, [*wants[:place], *wants[place + 1 :]], cores) for place, want in enumerate(wants)]


@pytest.mark.parametrize(
    ("weights_mib", "tokens", "threads"),
    [
        (10, 1, 1),
        (128, 1, 1),
        (129, 1, 2),
        (236, 1, 2),  # a token of it is no faster with more
        (236, 8, 2),
        (236, 16, 4),
        (972, 1, 8),
        (10, 64, 1),
        (10, 1024, 10),
        (0, 1, 1),
        (236, 0, 2),
    ],
)
def test_large_models_and_large_batches_are_worth_more_threads(weights_mib, tokens, threads):
    assert wanted(weights_mib * MIB, tokens) == threads


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 17), st.integers(0, 1 << 30), st.integers(0, 1 << 10))
def test_more_to_compute_is_never_worth_fewer(weights_bytes, tokens, more_bytes, more_tokens):
    assert 1 <= wanted(weights_bytes, tokens) <= wanted(weights_bytes + more_bytes, tokens + more_tokens)


@given(st.integers(1, 1 << 40), st.integers(0, FREE_TOKENS))
def test_a_few_tokens_count_as_one(weights_bytes, tokens):
    assert wanted(weights_bytes, tokens) == wanted(weights_bytes, 1) == -(-weights_bytes // THREAD_BYTES)


@pytest.mark.parametrize(
    ("wants", "cores", "given"),
    [
        ([4], 4, [4]),
        ([1, 4], 4, [1, 3]),
        ([2, 4], 4, [2, 2]),
        ([4, 4], 4, [2, 2]),
        ([1, 1, 4], 4, [1, 1, 2]),
        ([4, 4, 4], 4, [1, 1, 1]),  # the fourth is the gateway's
        ([2, 3, 8], 8, [2, 3, 3]),
        ([1] * 9, 4, [1] * 9),
        ([16, 16, 16], 64, [16, 16, 16]),
    ],
)
def test_who_wants_little_gets_it_and_the_others_split_the_rest(wants, cores, given):
    assert shares(wants, cores) == given


@given(SOME_WANTS, CORES)
def test_together_they_have_no_more_than_there_is(wants, cores):
    given = shares(wants, cores)
    assert all(1 <= one <= want for one, want in zip(given, wants, strict=True))
    assert sum(given) <= max(cores, len(wants))


@given(SOME_WANTS, CORES)
def test_who_gets_less_than_it_wants_has_as_much_as_anybody(wants, cores):
    given = shares(wants, cores)
    for one, want in zip(given, wants, strict=True):
        assert one == want or one >= max(given) - 1


@given(SOME_WANTS, CORES)
def test_nothing_is_left_over_that_everybody_short_of_it_could_have_one_more_of(wants, cores):
    given = shares(wants, cores)
    short = sum(one < want for one, want in zip(given, wants, strict=True))
    assert not short or sum(given) + short > cores


@given(SOME_WANTS, CORES, st.integers(1, 64))
def test_company_never_gives_more(wants, cores, another):
    assert share(wants[0], [*wants[1:], another], cores) <= share(wants[0], wants[1:], cores)
