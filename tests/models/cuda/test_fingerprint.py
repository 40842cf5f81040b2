"""Fingerprints notice what a model could do to its weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.cuda import fingerprint as module
from models.cuda.fingerprint import fingerprint, fingerprints

CHUNK_BYTES = 512 * 8


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    """So that a few kilobytes are many chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", CHUNK_BYTES // 8)
        yield


def random_bytes(size, seed=0):
    return torch.randint(0, 256, (size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.integers(1, 20_000), st.integers(CHUNK_BYTES - 9, CHUNK_BYTES + 9)), st.data())
def test_any_changed_byte_is_seen(size, data):
    flat = random_bytes(size)
    before = fingerprints([flat])
    at = data.draw(st.integers(0, size - 1))
    flat[at] += data.draw(st.integers(1, 255))
    assert fingerprints([flat]) != before


@settings(max_examples=40, deadline=None)
@given(st.integers(0, CHUNK_BYTES // 8 + 99), st.integers(0, CHUNK_BYTES // 8 + 99))
def test_words_that_change_places_are_seen(first, second):
    flat = random_bytes(CHUNK_BYTES + 808)
    words = flat[: CHUNK_BYTES + 800].view(torch.int64)
    before = fingerprints([flat])
    words[[first, second]] = words[[second, first]].clone()
    assert (fingerprints([flat]) == before) is (first == second)


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_flags_that_turn_over_are_seen(flags):
    """Few bits, evenly spread: where a plain weighted sum is easily the same."""
    mask = torch.tensor(flags)
    assert fingerprints([mask.view(torch.uint8)]) != fingerprints([(~mask).view(torch.uint8)])


def test_equal_bytes_have_equal_fingerprints_wherever_they_lie():
    room = random_bytes(10_000)
    for skip in (0, 1, 8, 12):
        own = room[skip : skip + 5011]
        assert fingerprint(own).equal(fingerprint(own.clone()))


def test_many_are_asked_at_once_and_none_is_no_question():
    parts = [random_bytes(size, size) for size in (1, 100, CHUNK_BYTES)]
    assert fingerprints(parts) == [int(fingerprint(part)) for part in parts]
    assert len(set(fingerprints(parts))) == 3
    assert fingerprints([]) == []


def test_zeros_of_different_lengths_are_the_callers_business():
    """A fingerprint is of contents; lengths are compared where blocks are."""
    assert fingerprints([torch.zeros(8, dtype=torch.uint8)]) == fingerprints([torch.zeros(99, dtype=torch.uint8)])
