"""A slab is shared out without losing a byte, whatever the order of taking and returning."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from models.cuda.regions import ALIGNMENT_BYTES, NoRoom, Region, Regions, aligned

PAGE = ALIGNMENT_BYTES


def test_regions_lie_one_after_the_other():
    regions = Regions(4 * PAGE)
    assert regions.take(1) == Region(0, PAGE)
    assert regions.take(PAGE + 1) == Region(PAGE, 2 * PAGE)
    assert (regions.free_bytes, regions.used_bytes) == (PAGE, 3 * PAGE)


def test_the_smallest_hole_that_fits_is_taken():
    regions = Regions(10 * PAGE)
    first, _, third, _ = (regions.take(size * PAGE) for size in (3, 1, 1, 1))
    regions.give_back(first)
    regions.give_back(third)
    assert regions.take(PAGE) == third


def test_a_refusal_says_what_is_free_and_what_is_in_one_piece():
    regions = Regions(3 * PAGE)
    first, _, third = (regions.take(PAGE) for _ in range(3))
    regions.give_back(first)
    regions.give_back(third)
    with pytest.raises(NoRoom, match="1024 bytes do not fit: 1024 are free, 512 of them in one piece") as refused:
        regions.take(2 * PAGE)
    assert (refused.value.size_bytes, refused.value.largest_bytes) == (2 * PAGE, PAGE)


def test_what_is_returned_twice_or_from_elsewhere_is_refused():
    regions = Regions(2 * PAGE)
    taken = regions.take(PAGE)
    regions.give_back(taken)
    for wrong in (taken, Region(PAGE, PAGE)):
        with pytest.raises(ValueError, match="was not taken from here"):
            regions.give_back(wrong)


@pytest.mark.parametrize(("size", "alignment"), [(0, 512), (-1, 512), (512, 0)])
def test_a_slab_of_nothing_is_refused(size, alignment):
    with pytest.raises(ValueError, match="must be above 0"):
        Regions(size, alignment)


def test_a_region_of_nothing_is_refused():
    with pytest.raises(ValueError, match="more than 0 bytes"):
        Regions(PAGE).take(0)


@given(st.integers(0, 10**12), st.integers(1, 4096))
def test_aligned_is_the_next_multiple(size, alignment):
    assert aligned(size, alignment) % alignment == 0
    assert 0 <= aligned(size, alignment) - size < alignment


class Sharing(RuleBasedStateMachine):
    """Against a model that knows each byte."""

    def __init__(self) -> None:
        super().__init__()
        self.regions = Regions(64 * PAGE)
        self.taken: list[Region] = []

    @rule(pages=st.integers(1, 20), odd=st.integers(0, PAGE - 1))
    def take(self, pages: int, odd: int) -> None:
        size = pages * PAGE - odd
        longest = self._longest_free()
        if aligned(size) > longest:
            with pytest.raises(NoRoom):
                self.regions.take(size)
        else:
            self.taken.append(self.regions.take(size))

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        self.regions.give_back(self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1))))

    @invariant()
    def no_byte_is_lost_or_given_twice(self) -> None:
        pages = sorted(page for region in self.taken for page in range(region.offset_bytes, region.end_bytes, PAGE))
        assert len(pages) == len(set(pages))
        assert all(region.offset_bytes % PAGE == 0 for region in self.taken)
        assert self.regions.used_bytes == len(pages) * PAGE
        assert self.regions.largest_bytes == self._longest_free()

    def _longest_free(self) -> int:
        held = {page for region in self.taken for page in range(region.offset_bytes, region.end_bytes, PAGE)}
        longest = run = 0
        for page in range(0, 64 * PAGE, PAGE):
            run = 0 if page in held else run + PAGE
            longest = max(longest, run)
        return longest


TestSharing = Sharing.TestCase
TestSharing.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
