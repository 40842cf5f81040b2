"""How a replica's part of its GPU's time is shared by the requests that run on it: equally, at each moment. Pure.

Virtual time (Demers, Keshav and Shenker, 1989, section 2): it grows by what each of n running requests gets, one n-th
of what passes, so a request's share is what it grew between its begin and its end. Whole nanoseconds: what cannot be
divided waits for the next moment, and what is left of it at the end of a segment is the longest-running request's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from models.store.usage import Phase, Use

NS = 1000  # in a microsecond


class Who(NamedTuple):
    """Whose time it is; "" where nobody's."""

    tenant: str
    project: str
    key: str
    model: str


@dataclass(frozen=True, slots=True, eq=False)
class Stay:
    """A request on a replica, as far as it lies in what is swept. ``begins``: it did not run before that; one that goes
    on has a ``to_us`` beyond it. ``waited``: for a start or a wake."""

    account: str
    who: Who
    replica: str
    from_us: int
    to_us: int
    begins: bool = True
    waited: bool = False


class Segment(NamedTuple):
    """A while, within one second, in which a GPU stays as it is, and this replica's part of it."""

    from_us: int
    to_us: int
    gpu: str
    memory_kib: int  # of the GPU
    part_ns: int
    phase: Phase


# Segment, what for, nanoseconds, and the stay that it is the share of, if there is one.
Book = Callable[[Segment, Use, int, Stay | None], None]


def parts(sizes: Sequence[int], whole: int, ns: int) -> list[int]:
    """Of ``ns``, by size; whole numbers of which none is off by 1 or more, and what is missing is nobody's."""
    whole = max(whole, sum(sizes))
    if whole <= 0:
        return [0] * len(sizes)
    found, before, sum_bytes = [], 0, 0
    for size in sizes:
        sum_bytes += size
        after = sum_bytes * ns // whole
        found.append(after - before)
        before = after
    return found


def share(segments: Iterable[Segment], stays: Sequence[Stay], book: Book) -> None:
    """All of each segment's part is booked. ``segments``: of one replica on one GPU, in order; ``stays``: on it."""
    marks = [(stay.from_us, 1, number) for number, stay in enumerate(stays)]
    marks += [(stay.to_us, 0, number) for number, stay in enumerate(stays)]
    sharing = _Sharing(stays, sorted(marks), book)
    for segment in segments:
        sharing.pass_through(segment)


class _Sharing:
    """``running``: a stay's number -> the virtual time up to which it is booked."""

    def __init__(self, stays: Sequence[Stay], marks: list[tuple[int, int, int]], book: Book) -> None:
        self._stays, self._marks, self._book = stays, marks, book
        self._running: dict[int, int] = {}
        self._next = self._virtual = self._carry = self._idle = 0

    def pass_through(self, segment: Segment) -> None:
        from_us, to_us, _, _, part_ns, phase = segment
        marks, running, starting = self._marks, self._running, phase is Phase.STARTING
        length_us, done = to_us - from_us, 0
        while self._next < len(marks) and marks[self._next][0] <= to_us:
            time_us, begins, number = marks[self._next]
            if begins and time_us == to_us:
                break  # the next segment's
            self._next += 1
            if time_us > from_us and not starting:
                reached = part_ns * (time_us - from_us) // length_us
                if reached > done:
                    self._pass(reached - done)
                    done = reached
            if begins:
                running[number] = self._virtual
                continue
            ns = self._virtual - running.pop(number, self._virtual)
            if ns:
                self._book(segment, Use.BUSY, ns, self._stays[number])
        if starting:
            self._book(segment, Use.STARTING, part_ns, None)
        else:
            self._pass(part_ns - done)
            self._end(segment)

    def _pass(self, ns: int) -> None:
        ns += self._carry
        if self._running:
            grown, self._carry = divmod(ns, len(self._running))
            self._virtual += grown
        else:
            self._idle += ns
            self._carry = 0

    def _end(self, segment: Segment) -> None:
        """All that has passed is booked."""
        virtual, more = self._virtual, self._carry
        for number, booked in self._running.items():
            ns = virtual - booked + more
            if ns:
                self._book(segment, Use.BUSY, ns, self._stays[number])
            self._running[number], more = virtual, 0
        if self._idle + more:
            self._book(segment, Use.IDLE, self._idle + more, None)
        self._carry = self._idle = 0
