"""What pictures are drawn from."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.outcome.slo import NO_SLO
from loadtests.report.analysis import analysed
from loadtests.report.content import Waterfall
from loadtests.report.pictures import changes, percentiles, timeline, waterfall
from loadtests.report.pictures.axes import Linear, Log, around, clock, ms, nice
from loadtests.report.pictures.canvas import NARROW, WIDE, Canvas
from loadtests.report.sides import load
from loadtests.report.style import ALONE
from tests.loadtests.report.made import rows_at, run, saved, service_of

some = st.floats(1e-3, 1e6)


@given(some, some, st.floats(0, 1))
def test_scales_keep_order_and_stay_inside(one: float, other: float, share: float) -> None:
    low, high = sorted((one, other))
    for scale in (Linear(low, high, 10.0, 90.0), Log(*around(low, high), 10.0, 90.0)):
        between = low + share * (high - low)
        assert scale(low) >= 10.0 - 1e-9
        assert scale(low) <= scale(between) + 1e-6 <= scale(high) + 2e-6
        assert scale(high) <= 90.0 + 1e-9


@given(some, some)
def test_ticks_are_few_and_inside(one: float, other: float) -> None:
    low, high = around(*sorted((one, other)))
    log = Log(low, high, 0.0, 1.0).ticks(8)
    assert 1 <= len(log) <= 12
    assert all(low * (1 - 1e-9) <= tick <= high * (1 + 1e-9) for tick in log)
    assert len(Linear(0.0, high, 0.0, 1.0).ticks(6)) <= 8


@given(st.floats(1e-9, 1e9))
def test_nice_steps_are_near_and_not_below(step: float) -> None:
    assert step * (1 - 1e-6) <= nice(step) <= step * 2.6


def test_ticks_are_said_in_the_unit_that_fits() -> None:
    assert [ms(value) for value in (0.5, 20.0, 1500.0)] == ["0.5 ms", "20 ms", "1.5 s"]
    assert [clock(at) for at in (2.5, 90.0, 600.0)] == ["2.5 s", "90 s", "10 min"]


def test_no_dot_of_the_tail_is_lost_where_there_are_too_many() -> None:
    seen = [(place / 100, 1.0 + (place % 97 == 0) * 500) for place in range(9700)]
    kept = timeline.thinned(seen)
    assert len(kept) == timeline.DOTS
    assert sum(latency > 500 for _, latency in kept) == 100
    assert timeline.thinned(seen[:20]) == seen[:20]


def test_medians_are_of_neighbours_and_of_enough_of_them() -> None:
    seen = [(place / 10, float(place // 50)) for place in range(100)]
    found = timeline.medians(seen, 10.0)
    assert found[0][1] == 0.0
    assert found[-1][1] == 1.0
    assert timeline.medians([], 10.0) == []
    assert timeline.medians([(1.0, 5.0)], 10.0) == []


def test_stretches_of_a_tier_end_where_the_next_begins() -> None:
    found = list(timeline.stretches([0.0, 1.0, 2.0, 3.0], ["disk", "disk", "gpu", None], 4.0))
    assert found == [("disk", 0.0, 2.0), ("gpu", 2.0, 3.0)]


def test_a_picture_that_stands_alone_is_xml_with_both_themes(tmp_path: Path) -> None:
    service = service_of(3.0, **{f"m{number}": [(0.0, "disk", 0), (1.0, "gpu", number)] for number in range(12)})
    subject = load([saved(tmp_path / "x", run(rows_at(np.random.default_rng(0), 60), service=service))])
    text = timeline.draw(subject, WIDE).svg(style=ALONE)
    root = ET.fromstring(text)
    assert root.tag.endswith("}svg")
    assert "prefers-color-scheme:dark" in text
    assert "and 4 more models" in text


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_part_has_a_bar_where_the_one_before_ended(width: float) -> None:
    fall = Waterfall("t", 5, {"late": 0.0, "auth": 1.0, "wake": 60.0, "engine": 30.0, "network": 9.0}, 35.0)
    svg = waterfall.draw([fall], width).svg()
    boxes = [(float(box.get("x", 0)), float(box.get("width", 0))) for box in ET.fromstring(svg).iter("rect")]
    assert len(boxes) == 5  # the engine alone, and all parts but the lateness that there was none of
    parts = boxes[1:]
    for (x, wide), (after, _) in pairwise(parts):
        assert x + wide == pytest.approx(after, abs=1.6)
    assert parts[1][1] / parts[2][1] == pytest.approx(2.0, rel=0.02)


def test_a_curve_rises_and_lies_in_its_band(tmp_path: Path) -> None:
    subject = load([saved(tmp_path / "x", run(rows_at(np.random.default_rng(0), 300)))])
    found = percentiles.curve(subject.shown, "ttft_ms", "through", 1)
    assert found is not None
    assert np.all(np.diff(found.value) >= 0)
    assert np.all(found.low <= found.value)
    assert np.all(found.value <= found.high)
    assert found.at[-1] == pytest.approx(1 - 10 / 300, abs=1e-6)


def test_what_changed_has_a_row_for_each_figure(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = [
        saved(tmp_path / name, run(rows_at(rng, 120, added_ms=added))) for name, added in (("a", 0.0), ("b", 40.0))
    ]
    report = analysed(load(files), NO_SLO)
    text = changes.draw(report.lines, WIDE).svg()
    assert text.count("TTFT ") >= len([line for line in report.lines if line.metric == "ttft_ms"])
    assert "var(--bad)" in text  # slower, beyond chance
    assert "var(--good)" not in text


@given(st.text(max_size=40))
def test_any_text_is_xml(text: str) -> None:
    canvas = Canvas(100.0, 100.0, text, about=text)
    canvas.text((1.0, 2.0), text)
    canvas.box((math.nan, 0.0), 1.0, 1.0, "ink", tip=text)
    ET.fromstring(canvas.svg())
