"""Counting how often somebody failed lately, in bounded memory. Pure: the time is passed in."""

from __future__ import annotations

from collections import OrderedDict

SLOTS = 10
MOST_WATCHED = 10_000  # whoever fails under many names pushes out the ones that failed longest ago


class _Count:
    __slots__ = ("counts", "slot")

    def __init__(self, slot: int) -> None:
        self.slot = slot  # the newest
        self.counts = [0] * SLOTS

    def add(self, slot: int) -> int:
        """How many there are, this one included."""
        for empty in range(self.slot + 1, min(slot, self.slot + SLOTS) + 1):
            self.counts[empty % SLOTS] = 0
        self.slot = max(slot, self.slot)
        self.counts[self.slot % SLOTS] += 1
        return sum(self.counts)


class Failures:
    """Never says that there were so many within a while when there were not; sees it for certain when they came within
    nine tenths of it, as it counts in tenths."""

    def __init__(self, most_watched: int = MOST_WATCHED) -> None:
        self._most_watched = most_watched
        self._counts: OrderedDict[str, _Count] = OrderedDict()
        self._within_s = 0.0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, who: str, now_s: float, most: int, within_s: float) -> bool:
        """``who`` failed once more. True: for the ``most``-th time within ``within_s``; then it is counted anew."""
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
        if count.add(slot) < most:
            return False
        del self._counts[who]
        return True
