"""A GPU's pictures, cut into segments: whole seconds, and moments at which it changed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.billing.shares import NS, Segment, parts
from gateway.billing.starts import Start
from models.store.usage import GpuPicture, Occupant, Phase

SECOND_US = 1_000_000
FREE = ""  # the seat that nobody has

Seat = tuple[str, str]  # GPU, replica


@dataclass(slots=True)
class Cut:
    """``owners``: of replicas, model and whose it is. ``late_us``: how far behind the furthest picture came."""

    seats: dict[Seat, list[Segment]] = field(default_factory=dict)
    owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    late_us: int = 0


def ripe(pictures: Sequence[GpuPicture], until_us: int) -> int:
    """How many of the first ones can be swept: a GPU's later picture never goes before an earlier one."""
    for number, picture in enumerate(pictures):
        if picture.at_us >= until_us:
            return number
    return len(pictures)


def cut(
    gpus: dict[str, GpuPicture], begun: list[Start], pictures: Iterable[GpuPicture], since_us: int, until_us: int
) -> Cut:
    """``gpus``: as they were at ``since_us``; as they are at ``until_us`` afterwards. ``begun``: starts, to which new
    ones are added and of which those that are over are told so. Pictures of earlier times count from ``since_us``."""
    found = Cut()
    at_us = dict.fromkeys(gpus, since_us)
    for picture in pictures:
        name, now_us = picture.gpu, max(picture.at_us, since_us)
        if picture.at_us < since_us:
            found.late_us = max(found.late_us, since_us - picture.at_us)
        before = gpus.get(name)
        if before is not None:
            now_us = max(now_us, at_us[name])
            _add(found, before, at_us[name], now_us)
        _turn(begun, gpus, picture, now_us)
        gpus[name], at_us[name] = picture, now_us
    for name, picture in list(gpus.items()):
        _add(found, picture, at_us[name], until_us)
        if not picture.present:
            del gpus[name]
    return found


def _add(found: Cut, picture: GpuPicture, from_us: int, to_us: int) -> None:
    if not picture.present:
        return
    sizes = [occupant.bytes for occupant in picture.occupants]
    memory_kib = picture.memory_bytes >> 10
    seats = []
    for occupant in picture.occupants:
        found.owners[occupant.replica] = (occupant.model, occupant.owner)
        seats.append((found.seats.setdefault((picture.gpu, occupant.replica), []), occupant.phase))
    free = found.seats.setdefault((picture.gpu, FREE), [])
    while from_us < to_us:
        end_us = min(to_us, from_us // SECOND_US * SECOND_US + SECOND_US)
        ns = (end_us - from_us) * NS
        shares = parts(sizes, picture.memory_bytes, ns)
        for (segments, phase), part_ns in zip(seats, shares, strict=True):
            segments.append(Segment(from_us, end_us, picture.gpu, memory_kib, part_ns, phase))
        left_ns = ns - sum(shares)
        if left_ns:
            free.append(Segment(from_us, end_us, picture.gpu, memory_kib, left_ns, Phase.SERVING))
        from_us = end_us


def _turn(begun: list[Start], gpus: Mapping[str, GpuPicture], after: GpuPicture, at_us: int) -> None:
    """Starts that begin or are over with this picture. A group's lasts while it starts on any of its GPUs."""
    before = gpus.get(after.gpu)
    starting = _starting(before).keys()
    now = _starting(after)
    elsewhere = {replica for name, other in gpus.items() if name != after.gpu for replica in _starting(other)}
    for replica in sorted(starting - now.keys() - elsewhere):
        serves = any(one.replica == replica and one.phase is Phase.SERVING for one in after.occupants)
        for start in begun:
            if start.replica == replica and not start.ended_us:
                start.ended_us, start.served = at_us, serves and after.present
    for replica in sorted(now.keys() - starting - elsewhere):
        one = now[replica]
        begun.append(Start(replica=replica, model=one.model, owner=one.owner, began_us=at_us))


def _starting(picture: GpuPicture | None) -> dict[str, Occupant]:
    if picture is None or not picture.present:
        return {}
    return {one.replica: one for one in picture.occupants if one.phase is Phase.STARTING}
