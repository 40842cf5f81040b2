from __future__ import annotations

import math

import numpy as np
import pytest

from packers.sim import TraceError
from packers.sim.formats.servegen import Client, Clients, Window, read

WINDOW_S = 600.0


def clients(*rates: tuple[float, ...], dist: str = "Gamma", shape: float = 1.0) -> Clients:
    return Clients(
        "x",
        tuple(
            Client(f"c{number}", tuple(Window(place * WINDOW_S, rate, dist, shape) for place, rate in enumerate(one)))
            for number, one in enumerate(rates)
        ),
        WINDOW_S,
    )


@pytest.mark.parametrize(("dist", "shape"), [("Gamma", 0.2), ("Gamma", 4.0), ("Weibull", 0.5), ("Weibull", 2.0)])
def test_each_window_has_its_rate_on_average(dist: str, shape: float) -> None:
    source = clients((1.0, 0.0, 3.0, 0.5), dist=dist, shape=shape)
    found = np.zeros(4)
    for seed in range(60):
        at_s = source.trace(np.random.default_rng(seed)).at_s
        found += np.histogram(at_s, bins=4, range=(0, 4 * WINDOW_S))[0]
    assert found[1] == 0
    assert found[[0, 2, 3]] / 60 / WINDOW_S == pytest.approx([1.0, 3.0, 0.5], rel=0.12)


def test_rates_so_low_that_gaps_are_longer_than_windows() -> None:
    source = clients((0.001,) * 20)
    counts = [len(source.trace(np.random.default_rng(seed))) for seed in range(300) if _sends(source, seed)]
    assert sum(counts) / 300 == pytest.approx(0.001 * 20 * WINDOW_S, rel=0.15)


def _sends(source: Clients, seed: int) -> bool:
    return len(source.trace(np.random.default_rng(seed))) > 0


@pytest.mark.parametrize(("dist", "shape"), [("Gamma", 0.25), ("Weibull", 0.7)])
def test_gaps_vary_as_stated(dist: str, shape: float) -> None:
    gaps_s = np.diff(clients((5.0,) * 10, dist=dist, shape=shape).trace(np.random.default_rng(1)).at_s)
    if dist == "Gamma":
        cv = shape**-0.5
    else:
        cv = math.sqrt(math.gamma(1 + 2 / shape) / math.gamma(1 + 1 / shape) ** 2 - 1)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(cv, rel=0.1)


def test_a_part_of_the_time_counts_from_its_beginning() -> None:
    source = clients((1.0, 2.0, 4.0))
    part = source.trace(np.random.default_rng(0), from_s=600, until_s=1200)
    assert part.at_s[0] >= 0
    assert part.duration_s < 600
    assert len(part) == pytest.approx(1200, rel=0.1)


def test_scaled_to_a_rate_over_that_time() -> None:
    source = clients((1.0, 2.0, 4.0), (0.0, 1.0, 0.0))
    part = source.trace(np.random.default_rng(0), from_s=600, until_s=1200, rate_per_s=9.0, names=["p", "q"])
    assert len(part) == pytest.approx(9 * 600, rel=0.05)
    assert part.counts()[part.names[0]] == pytest.approx(6 * 600, rel=0.1)
    assert part.names == ("p", "q")


def test_the_busiest_and_a_sample_of_the_active() -> None:
    source = clients((1.0, 0.0), (2.0, 0.0), (0.0, 5.0))
    assert [one.name for one in source.busiest(2).clients] == ["c2", "c1"]
    assert [one.name for one in source.busiest(2, until_s=600).clients] == ["c1", "c0"]
    drawn = source.sample(5, np.random.default_rng(0), until_s=600)
    assert [one.name for one in drawn.clients] == ["c0", "c1"]
    assert len(source.sample(1, np.random.default_rng(0)).clients) == 1


def test_silence_is_an_error() -> None:
    with pytest.raises(TraceError, match="no client sends anything from 600"):
        clients((1.0, 0.0)).trace(np.random.default_rng(0), from_s=600)


def test_the_length_of_a_window_is_read_off_the_file() -> None:
    heading = "category,client,window_start_s,rate_rps,cv,dist,p1,p2"
    rows = ["m,a,0,1,1,Gamma,1,1", "m,a,300,1,1,Gamma,1,1", "m,b,0,1,1,Gamma,1,1", "m,b,900,1,1,Gamma,1,1"]
    source = read([heading, *rows], "x")
    assert (source.window_s, source.end_s) == (300, 1200)
