"""How many threads a step is worth, and how many of them it gets while others compute as well.

Teams of threads that are larger, taken together, than the machine wait for each other at every barrier, and a model has
hundreds of barriers a token: three small engines at once were up to 14 times as slow as with one thread each.
"""

from __future__ import annotations

from collections.abc import Sequence

THREAD_BYTES = 128 << 20  # of weights to be read, below which another thread gains less than its barriers cost
FREE_TOKENS = 8  # so many at once take hardly longer than one: it is the reading of the weights that counts


def wanted(weights_bytes: int, tokens: int) -> int:
    """Threads worth having for a pass of so many tokens through so many bytes of weights, on however many cores."""
    return max(1, -(-weights_bytes * max(FREE_TOKENS, tokens) // (FREE_TOKENS * THREAD_BYTES)))


def share(want: int, others: Sequence[int], cores: int) -> int:
    """Of ``cores``, for one that wants ``want`` of them while others want theirs: 1 to ``want``.

    Max-min fair: who wants little gets it, the others split what is left evenly. If all count alike, they never have
    more than ``cores`` together, or one each where even that is more.
    """
    left = cores
    smaller = sorted(other for other in others if other < want)
    for place, other in enumerate(smaller):
        left -= max(1, min(other, left // (1 + len(others) - place)))
    return max(1, min(want, left // (1 + len(others) - len(smaller))))
