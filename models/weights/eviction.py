"""What has to go so that something else fits: the least recently used first, never what is held."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["layout", "download", "partial"]


@dataclass(frozen=True, slots=True)
class Item:
    """``held``: why it may not go, "" when it may. ``used_unix_s``: 0 for what can be of no use any more."""

    kind: Kind
    path: Path
    bytes: int
    used_unix_s: float
    held: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """``short_bytes``: what is lacking even when all of ``victims`` go."""

    victims: tuple[Item, ...]
    short_bytes: int

    @property
    def freed_bytes(self) -> int:
        return sum(item.bytes for item in self.victims)


def choose(items: Iterable[Item], excess_bytes: int) -> Choice:
    """Free ``excess_bytes`` with as few losses as the order allows.

    1. Held items stay.
    2. The others go in the order of their last use, until enough is freed.
    3. One chosen early stays after all when those after it are enough without it: a large one may have come last.
    """
    chosen: list[Item] = []
    left = excess_bytes
    for item in sorted(items, key=lambda item: (item.used_unix_s, str(item.path))):
        if left <= 0:
            break
        if not item.held and item.bytes > 0:  # 1, 2
            chosen.append(item)
            left -= item.bytes
    spare = -left
    for item in reversed(chosen[:-1]) if left <= 0 else ():  # 3
        if item.bytes <= spare:
            chosen.remove(item)
            spare -= item.bytes
    return Choice(tuple(chosen), max(left, 0))
