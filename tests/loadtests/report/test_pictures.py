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

from loadtests.load.plan import Phase
from loadtests.outcome.rows import Row
from loadtests.outcome.slo import NO_SLO
from loadtests.report.analysis import analysed
from loadtests.report.content import Waterfall
from loadtests.report.pictures import changes, models, percentiles, phases, timeline, tracks, waterfall
from loadtests.report.pictures.alone import standalone
from loadtests.report.pictures.axes import Linear, Log, around, clock, ms, nice
from loadtests.report.pictures.canvas import NARROW, WIDE, Canvas
from loadtests.report.sides import Subject, load
from loadtests.report.style import COLOURS
from tests.loadtests.outcome.made import row
from tests.loadtests.report.made import answered, plan_of, rows_at, run, saved, service_of

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
    kept = tracks.thinned(seen)
    assert len(kept) == tracks.DOTS
    assert sum(latency > 500 for _, latency in kept) == 100
    assert tracks.thinned(seen[:20]) == seen[:20]


def test_lines_are_of_neighbours_in_one_phase_and_of_enough_of_them() -> None:
    seen = [(place / 10, float(place // 50)) for place in range(100)]
    first, second = tracks.binned(seen, [0.0, 5.0, 10.0])
    assert {one.p50_ms for one in first} == {0.0}
    assert {one.p95_ms for one in second} == {1.0}
    assert max(one.at_s for one in first) < 5.0 < min(one.at_s for one in second)
    assert tracks.binned([], [0.0, 10.0]) == []
    assert tracks.binned([(1.0, 5.0)], [0.0, 10.0]) == []


def test_a_line_does_not_cross_a_time_in_which_nobody_asked() -> None:
    seen = [(place / 100, 1.0) for place in range(100)] + [(9 + place / 100, 1.0) for place in range(100)]
    assert len(tracks.binned(seen, [0.0, 10.0])) == 2


def test_rates_count_who_was_due_who_was_answered_and_who_failed() -> None:
    rows = [row(0, e2e_ms=1500), row(100, e2e_ms=100), row(200, e2e_ms=2500, error="timeout")]
    found = tracks.rates(rows, 3.0)
    assert found.due == [3.0, 0.0, 0.0]
    assert found.answered == [1.0, 1.0, 0.0]
    assert found.failed == [0.0, 0.0, 1.0]
    assert tracks.rates(rows, 3.0, passes=2).due == [1.5, 0.0, 0.0]
    assert tracks.rates(rows, 900.0).step_s == 10.0


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 9_000)), max_size=60))
def test_nobody_is_counted_twice(times: list[tuple[int, int]]) -> None:
    rows = [row(at, e2e_ms=lasts) for at, lasts in times]
    found = tracks.rates(rows, 30.0)
    assert sum(found.due) == pytest.approx(len(rows))
    assert sum(found.answered) == pytest.approx(len(rows))


def woken(at_ms: float, wake_ms: float, model: str = "m") -> Row:
    made = row(at_ms, ttft_ms=wake_ms + 10, e2e_ms=wake_ms + 50, model=model)
    made.timing_ms = {"wake": wake_ms}
    return made


def test_a_start_is_one_however_many_waited_for_it() -> None:
    rows = [woken(1000, 500), woken(1200, 300), woken(1300, 200, "n"), woken(4000, 100), woken(5000, 0.0)]
    service = service_of(6.0, m=[(0.0, "disk", 0), (1.5, "gpu", 1), (3.0, "host", 0)], n=[(0.0, "page_cache", 0)])
    first, other, again = tracks.wakes(rows, service)
    assert (first.model, first.tier, first.at_s, first.ttft_ms, first.waited) == ("m", "disk", 1.0, 510.0, 2)
    assert (other.model, other.tier, other.waited) == ("n", "page_cache", 1)
    assert (again.tier, again.waited) == ("host", 1)
    assert [one.tier for one in tracks.wakes(rows, {"problem": "no admin API"})] == ["", "", ""]


def saved_run(tmp_path: Path, rows: list[Row], names: list[str]) -> Subject:
    each_s = len(rows) * 0.05 / len(names)
    spans = [Phase(name, k * each_s, (k + 1) * each_s, rate_per_s=20.0 + k) for k, name in enumerate(names)]
    for one in rows:
        one.phase = min(len(names) - 1, int(one.begun_us / 1e6 / each_s))
    return load([saved(tmp_path / "phases", run(rows, plan=plan_of(len(rows), phases=spans)))])


def test_a_ramp_has_its_knee_between_the_last_good_step_and_the_next(tmp_path: Path) -> None:
    subject = saved_run(tmp_path, rows_at(np.random.default_rng(0), 120), ["2/s", "8/s", "32/s", "64/s"])
    assert "the knee" in phases.draw(subject, {"step": "8/s", "next_step": "32/s"}, WIDE).svg()
    assert "no knee up to here" in phases.draw(subject, {"step": "64/s", "next_step": None}, WIDE).svg()
    assert "knee" not in phases.draw(subject, None, NARROW).svg()


def test_phases_say_their_median_and_a_tail_that_there_are_requests_for(tmp_path: Path) -> None:
    rows = [answered(50.0 * k, 10.0 if k < 100 else 40.0) for k in range(200)]
    ((course,), tail) = phases.courses(saved_run(tmp_path, rows, ["a", "b"]))
    assert tail == "p99"
    assert [step.p50_ms for step in course.steps] == [10.0, 40.0]
    (_, tail) = phases.courses(saved_run(tmp_path, rows[:150], ["a", "b"]))
    assert tail == "p95"


def test_phases_keep_tenants_apart_and_show_failures(tmp_path: Path) -> None:
    rows = [answered(50.0 * k, 10.0 + 90.0 * (k % 2), tag="noisy" if k % 2 else "quiet") for k in range(60)]
    rows[7].error = "timeout"
    subject = saved_run(tmp_path, rows, ["alone", "noise", "alone again"])
    found, _ = phases.courses(subject)
    assert [one.name for one in found] == ["quiet", "noisy"]
    assert [one.colour for one in found] == [track.colour for track in tracks.tracks(subject)]
    for width in (WIDE, NARROW):
        text = phases.draw(subject, None, width).svg()
        assert "1 failed" in text
        ET.fromstring(text)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_models_have_a_row_each_and_their_starts(tmp_path: Path, width: float) -> None:
    rows = [one for k in range(30) for one in rows_at(np.random.default_rng(k), 3, model=f"model-{k}")]
    rows[0].timing_ms["wake"] = 9.0
    text = models.draw(load([saved(tmp_path / "x", run(rows))]), width).svg()
    assert "and 6 more models" in text
    assert text.count("for a start</title>") == 1
    ET.fromstring(text)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_picture_with_a_theme_of_its_own_asks_nobody_for_colours(tmp_path: Path, theme: str) -> None:
    subject = load([saved(tmp_path / "x", run(rows_at(np.random.default_rng(0), 60)))])
    text = standalone(timeline.draw(subject, WIDE, "a headline"), theme)
    assert "var(" not in text
    assert "prefers-color-scheme" not in text
    assert COLOURS["page"][theme == "dark"] in text
    assert ">a headline</text>" in text
    ET.fromstring(text)


def test_what_was_killed_is_marked(tmp_path: Path) -> None:
    made = run(rows_at(np.random.default_rng(0), 60))
    made["marks"] = [{"at_s": 1.0, "what": "kill", "detail": "engine"}, {"at_s": 1.0, "what": "reached", "detail": "x"}]
    text = timeline.draw(load([saved(tmp_path / "x", made)]), WIDE).svg()
    assert text.count("kill engine") == 1
    assert "reached" not in text


def test_stretches_of_a_tier_end_where_the_next_begins() -> None:
    found = list(tracks.stretches([0.0, 1.0, 2.0, 3.0], ["disk", "disk", "gpu", None], 4.0))
    assert found == [("disk", 0.0, 2.0), ("gpu", 2.0, 3.0)]


def test_a_picture_that_stands_alone_is_xml_with_both_themes(tmp_path: Path) -> None:
    service = service_of(3.0, **{f"m{number}": [(0.0, "disk", 0), (1.0, "gpu", number)] for number in range(12)})
    subject = load([saved(tmp_path / "x", run(rows_at(np.random.default_rng(0), 60), service=service))])
    text = standalone(timeline.draw(subject, WIDE))
    root = ET.fromstring(text)
    assert root.tag.endswith("}svg")
    assert "prefers-color-scheme:dark" in text
    assert "and 4 more models" in text


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_part_has_a_bar_where_the_one_before_ended(width: float) -> None:
    fall = Waterfall("t", 5, {"late": 0.0, "auth": 1.0, "wake": 60.0, "engine": 30.0, "network": 9.0}, 35.0)
    svg = waterfall.draw([fall], width).svg()
    boxes = [(float(box.get("x", 0)), float(box.get("width", 0))) for box in ET.fromstring(svg).iter("rect")]
    assert len(boxes) == 9  # the engine alone, all parts in one bar, and each but the lateness that there was none of
    parts = boxes[5:]
    for one in (boxes[1:5], parts):
        for (x, wide), (after, _) in pairwise(one):
            assert x + wide == pytest.approx(after, abs=1.6)
    assert "+65.0 ms" in svg  # 100 with Roundhouse, 35 without
    assert parts[1][1] / parts[2][1] == pytest.approx(2.0, rel=0.02)


def test_what_took_no_time_has_no_bar() -> None:
    svg = waterfall.draw([Waterfall("t", 5, {"auth": 1.0, "queue": 0.0001, "engine": 30.0})], WIDE).svg()
    assert len(list(ET.fromstring(svg).iter("rect"))) == 2
    assert "0.000 ms" in svg


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
