"""Where in a picture there are words already: those that come later go where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from loadtests.report.pictures.letters import SMALL, text_width

ANCHORED = {"start": 0.0, "middle": 0.5, "end": 1.0}


@dataclass(frozen=True, slots=True)
class Box:
    """Pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def inside(self, other: Box) -> bool:
        across = other.left <= self.left and self.right <= other.right
        return across and other.top <= self.top and self.bottom <= other.bottom


@dataclass(frozen=True, slots=True)
class Spot:
    """Where words may begin, end or have their middle; the y is that of their base line."""

    x: float
    y: float
    anchor: str = "start"

    def box(self, text: str, size: float = SMALL, bold: bool = False) -> Box:
        wide = text_width(text, size, bold)
        left = self.x - wide * ANCHORED[self.anchor]
        return Box(left, self.y - size, left + wide, self.y + size * 0.3)


@dataclass(slots=True)
class Places:
    """Within ``whole``, ``taken`` so far."""

    whole: Box
    taken: list[Box] = field(default_factory=list)

    def take(self, boxes: Iterable[Box]) -> None:
        self.taken.extend(boxes)

    def free(self, box: Box) -> bool:
        return box.inside(self.whole) and not any(box.meets(other) for other in self.taken)

    def spot(self, text: str, among: Sequence[Spot], size: float = SMALL, bold: bool = False) -> Spot | None:
        """The first one with room for the words, which is taken from then on; None: there is none."""
        for one in among:
            box = one.box(text, size, bold)
            if self.free(box):
                self.taken.append(box)
                return one
        return None
