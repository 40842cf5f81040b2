"""What is learned from surges: idle and busy reserves, growth, and how much of it before anything was seen."""

from __future__ import annotations

import numpy as np
import pytest

from packers.autoscale.surges import COUNTS, GROWTHS, PRIOR_GROWTH, USES, Surges, hold_s, row_of
from packers.load import Aim, Reserve

AIM = Aim(slots=4, start_s=12.0, wait_s=3.5)


def play(surges: Surges, arrivals: list[tuple[float, int]], until_s: float, service_s: float = 1.0) -> Reserve:
    for at_s, count in sorted(arrivals):
        surges.advance(at_s, service_s)
        surges.arrive(count)
    surges.advance(until_s, service_s)
    return surges.reserve(until_s)


def bursts(every_s: float, count: int, number: int, lasts_s: int = 1) -> list[tuple[float, int]]:
    return [(place * every_s + second, count) for place in range(number) for second in range(lasts_s)]


def test_nothing_seen_is_nothing_reserved() -> None:
    surges = Surges(AIM, 0.0)
    surges.advance(10_000.0, 1.0)
    assert surges.reserve(10_000.0) == Reserve(growth=PRIOR_GROWTH)


def test_bursts_out_of_silence_are_served_by_the_idle_reserve() -> None:
    """40 requests of a second at once, nobody may wait longer than 3.5 s: 40 / 4.5 slots are enough, which 3 have."""
    reserve = play(Surges(AIM, 0.0), bursts(60.0, 40, 50), 3000.0)
    assert reserve.idle == 3
    assert reserve.late_share <= AIM.late_share


def test_bigger_bursts_get_a_bigger_reserve() -> None:
    sizes = [play(Surges(AIM, 0.0), bursts(60.0, count, 50), 3000.0).idle for count in (4, 20, 60, 120)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_rare_bursts_are_not_worth_a_reserve() -> None:
    """One request every 20 minutes: 1,200 GPU-seconds for each, and one is worth 120."""
    rare = play(Surges(AIM, 0.0), bursts(1200.0, 1, 20), 24_000.0)
    often = play(Surges(AIM, 0.0), bursts(60.0, 1, 400), 24_000.0)
    assert (rare.idle, often.idle) == (0, 1)


def test_a_start_as_quick_as_the_wait_needs_no_reserve_for_single_requests() -> None:
    quick = Surges(Aim(slots=4, start_s=1.0, wait_s=3.5), 0.0)
    assert play(quick, bursts(60.0, 1, 50), 3000.0).idle == 0


def test_steady_traffic_is_soon_known_to_be_steady() -> None:
    """Ten a second of a second each: ten in flight, 2.5 replicas."""
    surges = Surges(AIM, 0.0)
    early = play(surges, [(tick / 10, 1) for tick in range(600)], 60.0)
    late = play(surges, [(60 + tick / 10, 1) for tick in range(12_000)], 1260.0)
    assert late.growth <= 1.2 < early.growth
    assert surges.burstiness < 0.2


def test_bursty_traffic_keeps_its_caution_for_longer() -> None:
    surges = Surges(AIM, 0.0)
    reserve = play(surges, bursts(120.0, 20, 10, lasts_s=5), 1200.0)
    assert surges.burstiness > 2
    assert reserve.growth > 1.2


def test_surges_that_grow_while_a_replica_starts_are_provided_for() -> None:
    """Two requests a second for ten seconds, then forty: what is in use says little of what comes."""
    surge = [(second, 2) for second in range(10)] + [(10 + second, 40) for second in range(10)]
    train = [(place * 120.0 + at_s, count) for place in range(60) for at_s, count in surge]
    reserve = play(Surges(AIM, 0.0), train, 7200.0)
    in_use = 2.0 / 4
    assert max(reserve.busy, reserve.growth * in_use) >= 6


def test_habits_are_forgotten() -> None:
    surges = Surges(AIM, 0.0)
    before = play(surges, bursts(60.0, 60, 60), 3600.0)
    after = play(surges, [(3600.0 + at_s, count) for at_s, count in bursts(60.0, 4, 1500)], 93_600.0)
    assert after.idle < before.idle


def test_what_is_offered_decays_with_the_service_time() -> None:
    surges = Surges(AIM, 0.0)
    surges.arrive(20)
    surges.advance(0.5, 2.0)
    first = surges.offered
    surges.advance(2.5, 2.0)
    assert surges.offered == pytest.approx(first / np.e, rel=0.01)


def test_short_requests_do_not_pile_up_within_a_step() -> None:
    """100 a second of 10 ms each are one at a time, however long a step is."""
    surges = Surges(AIM, 0.0)
    play(surges, [(tick / 2, 50) for tick in range(40)], 20.0, service_s=0.01)
    assert surges.offered == pytest.approx(1.0, rel=0.01)


def test_rows_hold_what_they_stand_for() -> None:
    assert row_of(0.0) == row_of(0.019) == 0
    for in_use in (0.02, 0.05, 0.9, 1.0, 7.3, 120.0):
        row = row_of(in_use)
        assert USES[row] >= in_use * (1 - 1e-9)
        assert USES[row - 1] < in_use or row == 1
    assert row_of(1e9) == len(USES) - 1


def test_columns_and_growths_rise() -> None:
    assert (np.diff(COUNTS) > 0).all()
    assert COUNTS[0] == 0
    assert (np.diff(GROWTHS) > 0).all()
    assert GROWTHS[0] == 1  # never planned for less than is there


@pytest.mark.parametrize(("start_s", "holds_s"), [(1.25, 2.0), (12.0, 6.0), (40.0, 20.0)])
def test_a_dear_start_holds_longer(start_s: float, holds_s: float) -> None:
    assert hold_s(start_s) == holds_s
