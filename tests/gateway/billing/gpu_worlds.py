"""GPUs, replicas and requests made up by hypothesis: what was, and what is known of it when."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from gateway.billing.shares import Stay, Who
from models.store.usage import GpuPicture, Occupant, Phase

T0 = 1_795_000_000_000_000  # a whole second
LONGEST_US = 6_000_000
MEMORY = 1000 << 20
REPLICAS = ("a", "b", "c")


@dataclass(frozen=True)
class World:
    pictures: list[GpuPicture]
    stays: list[Stay]
    until_us: int


def picture(at_us: int, gpu: str, *occupants: Occupant, present: bool = True, memory: int = MEMORY) -> GpuPicture:
    return GpuPicture(
        at_us=at_us, gpu=gpu, node="n", pool="owned", memory_bytes=memory, simulated=True, present=present,
        occupants=occupants,
    )  # fmt: skip


def occupant(replica: str, size: int = MEMORY // 4, phase: Phase = Phase.SERVING, owner: str = "team") -> Occupant:
    return Occupant(replica=replica, model=f"model-{replica}", owner=owner, bytes=size, phase=phase)


def stay(name: str, replica: str, from_us: int, to_us: int, *, waited: bool = False, tenant: str = "t") -> Stay:
    who = Who(tenant, "p", f"key-{tenant}", f"model-{replica}")
    return Stay(name, who, replica, from_us, to_us, begins=True, waited=waited)


def cut_to(stays: list[Stay], since_us: int, until_us: int) -> list[Stay]:
    """As they are told to a sweep of this time."""
    return [
        Stay(
            one.account, one.who, one.replica, max(one.from_us, since_us), one.to_us,
            begins=one.from_us >= since_us, waited=one.waited,
        )
        for one in stays
        if max(one.from_us, since_us) < min(one.to_us, until_us)
    ]  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> World:
    times = st.integers(0, LONGEST_US)
    pictures = []
    for gpu in draw(st.sampled_from([("g0",), ("g0", "g1")])):
        for at in sorted(draw(st.lists(times, min_size=1, max_size=6))):
            there = draw(st.lists(st.sampled_from(REPLICAS), unique=True, max_size=3))
            sizes = [draw(st.integers(1, MEMORY // 3)) for _ in there]
            phases = [draw(st.sampled_from(list(Phase))) for _ in there]
            found = [occupant(*each) for each in zip(there, sizes, phases, strict=True)]
            pictures.append(picture(T0 + at, gpu, *found, present=draw(st.integers(0, 9)) > 0))
    pictures.sort(key=lambda one: one.at_us)
    stays = []
    for number in range(draw(st.integers(0, 12))):
        begin = draw(times)
        length = draw(st.one_of(st.integers(1, 50), st.integers(1, LONGEST_US)))
        replica = draw(st.sampled_from(REPLICAS))
        tenant = draw(st.sampled_from("xyz"))
        stays.append(
            stay(f"r{number}", replica, T0 + begin, T0 + begin + length, waited=draw(st.booleans()), tenant=tenant)
        )
    return World(pictures, stays, T0 + LONGEST_US + 2_000_000)
