"""Every second of every GPU is somebody's or nobody's, once; and each request's share is what it used."""

from __future__ import annotations

import random
from collections import defaultdict
from fractions import Fraction
from itertools import pairwise

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.billing.shares import Who
from gateway.billing.sweep import State, Swept, sweep
from gateway.billing.timeline import SECOND_US, ripe
from models.store.rollups import hour_of
from models.store.tenancy import Bearer, HouseRecord
from models.store.usage import GpuPicture, Phase, Use
from tests.gateway.billing.gpu_worlds import (
    LONGEST_US,
    MEMORY,
    T0,
    World,
    cut_to,
    occupant,
    picture,
    stay,
    worlds,
)

SECOND_NS = 10**9
HOUSE = HouseRecord()
TENANTS = ("team",)
HOUSES = st.builds(
    HouseRecord, starts_charged_to=st.sampled_from(Bearer),
    idle_charged_to=st.sampled_from([Bearer.OWNER, Bearer.POOL]),
)  # fmt: skip


def swept_in_steps(world: World, ends: list[int], house: HouseRecord = HOUSE) -> tuple[State, list[Swept]]:
    """The state goes through its written form between steps, as when a process was killed."""
    state, found, rest = State(), [], list(world.pictures)
    for until_us in [*sorted(ends), world.until_us]:
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=State)
        ready = ripe(rest, until_us)
        stays = cut_to(world.stays, state.until_us, until_us)
        found.append(sweep(state, rest[:ready], stays, until_us, house, TENANTS))
        rest = rest[ready:]
    return state, found


def whole_steps(seconds: set[int]) -> list[int]:
    return [T0 + second * SECOND_US for second in seconds]


STEPS = st.sets(st.integers(1, LONGEST_US // SECOND_US + 1)).map(whole_steps)


def wall_ns(pictures: list[GpuPicture], until_us: int) -> dict[tuple[int, str], int]:
    """How long each GPU was there, by second."""
    found: dict[tuple[int, str], int] = defaultdict(int)
    for gpu in {one.gpu for one in pictures}:
        own = [one for one in pictures if one.gpu == gpu]
        for now, end in zip(own, [*(after.at_us for after in own[1:]), until_us], strict=True):
            begin = now.at_us
            while now.present and begin < end:
                stop = min(end, (begin // SECOND_US + 1) * SECOND_US)
                found[begin // SECOND_US, gpu] += (stop - begin) * 1000
                begin = stop
    return dict(found)


def total(found: list[Swept], *uses: Use) -> int:
    return sum(ns for one in found for sums in one.seconds.values() for place, ns in sums.items() if place[1] in uses)


@settings(deadline=None)
@given(worlds(), STEPS, HOUSES)
def test_each_second_of_each_gpu_is_booked_once_to_the_nanosecond(
    world: World, ends: list[int], house: HouseRecord
) -> None:
    _, found = swept_in_steps(world, ends, house)
    booked: dict[tuple[int, str], int] = defaultdict(int)
    for one in found:
        for second, sums in one.seconds.items():
            for (gpu, _, _), ns in sums.items():
                assert ns >= 0
                booked[second, gpu] += ns
    assert {place: ns for place, ns in booked.items() if ns} == wall_ns(world.pictures, world.until_us)


@settings(deadline=None)
@given(worlds(), STEPS, HOUSES)
def test_hours_add_up_to_the_wall_clock_whatever_is_moved(world: World, ends: list[int], house: HouseRecord) -> None:
    _, found = swept_in_steps(world, ends, house)
    hours: dict[tuple[str, str], int] = defaultdict(int)
    for one in found:
        for hour, sums in one.hours().items():
            for (gpu, _, _), ns in sums.items():
                hours[hour, gpu] += ns
    wall: dict[tuple[str, str], int] = defaultdict(int)
    for (second, gpu), ns in wall_ns(world.pictures, world.until_us).items():
        wall[hour_of(second), gpu] += ns
    assert {place: ns for place, ns in hours.items() if ns} == wall


@settings(deadline=None)
@given(worlds(), STEPS, HOUSES)
def test_shares_add_up_to_what_was_busy_and_charges_to_what_was_moved(
    world: World, ends: list[int], house: HouseRecord
) -> None:
    state, found = swept_in_steps(world, ends, house)
    assert sum(account.gpu_ns for account in state.accounts.values()) == total(found, Use.BUSY)
    owners = [one for by in state.residents.values() for models in by.values() for one in models.values()]
    accounts = [*state.accounts.values(), *owners]
    charged = sum(ns for one in found for sums in one.moved.values() for (_, _, who), ns in sums.items() if who.tenant)
    assert sum(account.start_gpu_ns for account in accounts) == charged
    assert sum(ns for one in found for sums in one.moved.values() for ns in sums.values()) == 0
    idle = sum(
        ns
        for one in found
        for sums in one.seconds.values()
        for (_, use, who), ns in sums.items()
        if use is Use.IDLE and who.tenant
    )
    assert sum(owner.gpu_ns for owner in owners) == idle


@settings(deadline=None)
@given(worlds(), STEPS, HOUSES, st.randoms(use_true_random=False))
def test_it_does_not_matter_in_how_many_steps_or_in_what_order(
    world: World, ends: list[int], house: HouseRecord, rng: random.Random
) -> None:
    once_state, once = swept_in_steps(world, [], house)
    shuffled = World(world.pictures, rng.sample(world.stays, len(world.stays)), world.until_us)
    state, found = swept_in_steps(shuffled, ends, house)
    busy = {name: account.gpu_ns for name, account in state.accounts.items() if account.gpu_ns}
    before = {name: account.gpu_ns for name, account in once_state.accounts.items() if account.gpu_ns}
    # Nanoseconds that cannot be divided go to the one that has run longest; of two that began at once, to either.
    assert busy.keys() - before.keys() == set()
    assert all(abs(busy[name] - before.get(name, 0)) <= 200 for name in busy)
    assert state.gpus == once_state.gpus
    for use in Use:
        assert total(found, use) == total(once, use)


@settings(deadline=None)
@given(worlds(), STEPS)
def test_a_share_is_what_the_definition_says(world: World, ends: list[int]) -> None:
    state, _ = swept_in_steps(world, ends)
    expected = shares_by_definition(world)
    for name in expected.keys() | state.accounts.keys():
        share = state.accounts[name].gpu_ns if name in state.accounts else 0
        assert -200 < share - expected.get(name, Fraction()) < 200, name  # a few nanoseconds for each cut


def shares_by_definition(world: World) -> dict[str, Fraction]:
    """At each moment a replica's part of its GPU, divided by how many run on it."""
    times = sorted(
        {one.at_us for one in world.pictures}
        | {at for one in world.stays for at in (one.from_us, one.to_us)}
        | {world.until_us}
    )
    found: dict[str, Fraction] = defaultdict(Fraction)
    gpus: dict[str, GpuPicture] = {}
    for begin, end in pairwise(times):
        gpus |= {one.gpu: one for one in world.pictures if one.at_us == begin}
        for gpu in gpus.values():
            for seat in gpu.occupants if gpu.present else ():
                here = [one for one in world.stays if one.replica == seat.replica and one.from_us <= begin < one.to_us]
                if end > world.until_us or seat.phase is Phase.STARTING:
                    continue
                for one in here:
                    found[one.account] += Fraction((end - begin) * 1000 * seat.bytes, gpu.memory_bytes * len(here))
    return found


def test_two_requests_share_a_quarter_of_a_gpu() -> None:
    state = State()
    stays = [stay("first", "a", T0, T0 + 2 * SECOND_US), stay("second", "a", T0 + SECOND_US, T0 + 2 * SECOND_US)]
    found = sweep(state, [picture(T0, "g", occupant("a"))], stays, T0 + 3 * SECOND_US, HOUSE)
    assert state.accounts["first"].gpu_ns == SECOND_NS // 4 + SECOND_NS // 8
    assert state.accounts["second"].gpu_ns == SECOND_NS // 8
    assert state.accounts["second"].memory_kib_ms == (MEMORY >> 10) * 1000 // 8
    who, nobody = stays[0].who, Who("", "", "", "model-a")
    free = ("g", Use.FREE, Who("", "", "", ""))
    assert found.seconds == {
        T0 // SECOND_US: {("g", Use.BUSY, who): SECOND_NS // 4, free: SECOND_NS * 3 // 4},
        T0 // SECOND_US + 1: {("g", Use.BUSY, who): SECOND_NS // 4, free: SECOND_NS * 3 // 4},
        T0 // SECOND_US + 2: {("g", Use.IDLE, nobody): SECOND_NS // 4, free: SECOND_NS * 3 // 4},
    }


def test_what_cannot_be_divided_is_the_longest_running_ones() -> None:
    state = State()
    stays = [stay(name, "a", T0, T0 + 2 * SECOND_US) for name in ("one", "two", "three")]
    sweep(state, [picture(T0, "g", occupant("a", MEMORY))], cut_to(stays, 0, T0 + SECOND_US), T0 + SECOND_US, HOUSE)
    assert sorted(account.gpu_ns for account in state.accounts.values()) == [333_333_333, 333_333_333, 333_333_334]


def test_a_group_of_gpus_counts_on_each() -> None:
    state = State()
    both = [picture(T0, name, occupant("a", MEMORY // 2)) for name in ("g0", "g1")]
    sweep(state, both, [stay("r", "a", T0, T0 + SECOND_US)], T0 + SECOND_US, HOUSE)
    assert state.accounts["r"].gpu_ns == SECOND_NS


def start_of(waiters: list[tuple[str, int]], house: HouseRecord = HOUSE) -> tuple[State, Swept]:
    """A start of 2 s; each waiter's request begins so many microseconds after that."""
    pictures = [
        picture(T0, "g", occupant("a", phase=Phase.STARTING)),
        picture(T0 + 2 * SECOND_US, "g", occupant("a")),
    ]
    ready_us = T0 + 2 * SECOND_US
    stays = [stay(name, "a", ready_us + after, ready_us + after + 1000, waited=True) for name, after in waiters]
    state = State()
    return state, sweep(state, pictures, stays, T0 + 5 * SECOND_US, house, TENANTS)


def test_those_who_waited_for_a_start_bear_it_together() -> None:
    state, swept = start_of([("one", 0), ("two", 900_000), ("later", 1_100_000)])
    assert state.accounts["one"].start_gpu_ns == state.accounts["two"].start_gpu_ns == SECOND_NS // 4
    assert state.accounts["later"].start_gpu_ns == 0
    assert state.starts == []
    (hour,) = swept.hours().values()
    starting = {who.tenant: ns for (_, use, who), ns in hour.items() if use is Use.STARTING}
    assert starting == {"": 0, "t": SECOND_NS // 2}


def test_nobody_waited_for_it() -> None:
    """Then it is borne as idle time is."""
    state, _ = start_of([])
    assert state.residents == {}
    state, swept = start_of([], HouseRecord(idle_charged_to=Bearer.OWNER))
    (hour,) = swept.hours()
    assert state.residents[hour]["team"]["model-a"].start_gpu_ns == SECOND_NS // 2


def test_owners_bear_starts_where_the_house_says_so() -> None:
    state, swept = start_of([("one", 0)], HouseRecord(starts_charged_to=Bearer.OWNER))
    (hour,) = swept.hours()
    assert state.residents[hour]["team"]["model-a"].start_gpu_ns == SECOND_NS // 2
    assert state.accounts["one"].start_gpu_ns == 0


def test_a_start_that_failed_is_nobodys() -> None:
    pictures = [picture(T0, "g", occupant("a", phase=Phase.STARTING)), picture(T0 + SECOND_US, "g")]
    state = State()
    sweep(state, pictures, [], T0 + 2 * SECOND_US, HouseRecord(starts_charged_to=Bearer.OWNER), ())
    assert state.starts == []
    assert state.residents == {}


def test_who_waits_is_awaited_until_the_start_is_charged() -> None:
    state = State()
    pictures = [
        picture(T0, "g", occupant("a", phase=Phase.STARTING)),
        picture(T0 + SECOND_US, "g", occupant("a")),
    ]
    one = stay("one", "a", T0 + SECOND_US, T0 + SECOND_US + 10, waited=True)
    sweep(state, pictures, [one], T0 + SECOND_US + SECOND_US, HOUSE)
    assert state.awaits() == set(), "a second is enough"
    state = State()
    sweep(state, pictures[:1], [], T0 + SECOND_US, HOUSE)
    late = picture(T0 + SECOND_US + 500_000, "g", occupant("a"))
    sweep(state, [late], [stay("one", "a", late.at_us, late.at_us + 9, waited=True)], T0 + 2 * SECOND_US, HOUSE)
    assert state.awaits() == {"one"}
    sweep(state, [], [], T0 + 3 * SECOND_US, HOUSE)
    assert state.awaits() == set()
    assert state.accounts["one"].start_gpu_ns == SECOND_NS * 3 // 8


def test_a_picture_that_comes_late_counts_from_now_on() -> None:
    state = State()
    sweep(state, [picture(T0, "g", occupant("a"))], [], T0 + 2 * SECOND_US, HOUSE)
    swept = sweep(state, [picture(T0 + SECOND_US, "g")], [], T0 + 3 * SECOND_US, HOUSE)
    assert swept.late_us == SECOND_US
    assert total([swept], Use.IDLE) == 0
    assert total([swept], Use.FREE) == SECOND_NS


def test_a_gpu_that_is_gone_does_not_count() -> None:
    state = State()
    found = sweep(
        state,
        [picture(T0, "g"), picture(T0 + SECOND_US + 500_000, "g", present=False)],
        [],
        T0 + 9 * SECOND_US,
        HOUSE,
    )
    assert total([found], Use.FREE) == SECOND_NS * 3 // 2
    assert state.gpus == {}


def test_a_gpu_with_more_on_it_than_it_has_is_shared_all_the_same() -> None:
    state = State()
    both = picture(T0, "g", occupant("a", MEMORY), occupant("b", MEMORY))
    found = sweep(state, [both], [], T0 + SECOND_US, HOUSE)
    assert total([found], Use.IDLE) == SECOND_NS
    unknown = picture(T0, "h", occupant("a", 0), memory=0)
    assert total([sweep(State(), [unknown], [], T0 + SECOND_US, HOUSE)], Use.FREE) == SECOND_NS
