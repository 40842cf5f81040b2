"""Counting how often somebody failed lately, in bounded memory. Pure: the time is passed in."""

from __future__ import annotations

from collections import OrderedDict

SLOTS = 10
MOST_WATCHED = 10_000  # whoever fails under many names pushes out the ones that failed longest ago


class _Count:
    __slots__ = ("asked", "counts", "slot")

    def __init__(self, slot: int) -> None:
        self.slot = slot  # the newest
        self.counts = [0] * SLOTS
        self.asked = [0] * SLOTS  # how often it had asked by its first failure in each

    def add(self, slot: int, asked: int) -> tuple[int, int]:
        """How many there are, this one included, and of how many requests."""
        counts = self.counts
        for empty in range(self.slot + 1, min(slot, self.slot + SLOTS) + 1):
            counts[empty % SLOTS] = 0
        self.slot = max(slot, self.slot)
        place = self.slot % SLOTS
        if not counts[place]:
            self.asked[place] = asked
        counts[place] += 1
        first = next(older for n in range(1, SLOTS + 1) if counts[older := (place + n) % SLOTS])
        return sum(counts), asked - self.asked[first] + 1


class Failures:
    """Never says that there were so many within a while when there were not; sees it for certain when they came within
    nine tenths of it, as it counts in tenths. Who fails now and then among many good requests does not count."""

    def __init__(self, most_watched: int = MOST_WATCHED) -> None:
        self._most_watched = most_watched
        self._counts: OrderedDict[str, _Count] = OrderedDict()
        self._within_s = 0.0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, who: str, now_s: float, most: int, within_s: float, asked: int = 0) -> bool:
        """``who`` failed once more; ``asked``: how many requests it has made, where that is known.

        True: it failed for the ``most``-th time within ``within_s``, and at least in every second request since the
        first of those; then it is counted anew.
        """
        if within_s != self._within_s:
            self._counts.clear()  # other slots
            self._within_s = within_s
        slot = int(now_s * SLOTS / within_s)
        count = self._counts.get(who)
        if count is None:
            count = self._counts[who] = _Count(slot)
            if len(self._counts) > self._most_watched:
                self._counts.popitem(last=False)
        else:
            self._counts.move_to_end(who)
        failed, requests = count.add(slot, asked)
        if failed < most or 2 * failed < requests:
            return False
        del self._counts[who]
        return True
