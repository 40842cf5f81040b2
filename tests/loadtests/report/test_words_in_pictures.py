"""No words in a picture lie on others, or beyond its edge: by measure, without a browser."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.load.plan import Phase
from loadtests.outcome.rows import Row
from loadtests.outcome.slo import NO_SLO
from loadtests.report.analysis import analysed
from loadtests.report.content import Waterfall
from loadtests.report.gallery import gallery
from loadtests.report.parts import falls
from loadtests.report.pictures import phases, timeline, waterfall
from loadtests.report.pictures.canvas import NARROW, WIDE, Canvas
from loadtests.report.pictures.letters import cut, text_width, wrapped
from loadtests.report.pictures.places import Box, Places, Spot
from loadtests.report.sides import load
from tests.loadtests.report.made import answered, plan_of, run, saved

WIDTHS = pytest.mark.parametrize("width", [WIDE, NARROW])
some_words = st.lists(st.text("abcdefgh:;0123", min_size=1, max_size=12), min_size=1, max_size=12).map(" ".join)


def texts(canvas: Canvas) -> list[tuple[str, Box]]:
    return told(ET.fromstring(canvas.svg()))


def told(picture: ET.Element) -> list[tuple[str, Box]]:
    found = []
    for one in picture.iter("text"):
        said = one.text or ""
        spot = Spot(float(one.get("x", 0)), float(one.get("y", 0)), one.get("text-anchor", "start"))
        box = spot.box(said, float(one.get("font-size", 0)), one.get("font-weight") is not None)
        found.append((said, box))
    return found


def wrong(canvas: Canvas) -> list[str]:
    return amiss(ET.fromstring(canvas.svg()))


def amiss(picture: ET.Element) -> list[str]:
    said = told(picture)
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    edge = Box(-1.0, -1.0, width + 1.0, height + 1.0)
    found = [f"{one} is cut off" for one, box in said if not box.inside(edge)]
    for (one, here), (other, there) in combinations(said, 2):
        if min(here.bottom, there.bottom) - max(here.top, there.top) > 3 and here.meets(there):
            found.append(f"{one} is on {other}")
    return found


def woken(at_ms: float, ttft_ms: float) -> Row:
    made = answered(at_ms, ttft_ms, through=True)
    made.timing_ms["wake"] = ttft_ms - 2.0
    return made


@WIDTHS
@pytest.mark.parametrize("ttft_ms", [145.0, 120.0, 90.0, 60.0])
def test_the_flag_of_a_kill_leaves_a_waits_words_alone(tmp_path: Path, width: float, ttft_ms: float) -> None:
    rows = [woken(1000.0, ttft_ms), *(answered(50.0 * k, 8.0 + k % 3, through=True) for k in range(80))]
    made = run(rows)
    made["marks"] = [{"at_s": at, "what": "kill", "detail": "engine, process 22184"} for at in (0.9, 1.05, 1.2)]
    canvas = timeline.draw(load([saved(tmp_path / "killed", made)]), width)
    assert [one for one, _ in texts(canvas)].count("kill engine, process 22184") == 3
    assert any(one.startswith("a start, ") for one, _ in texts(canvas))
    assert wrong(canvas) == []


@WIDTHS
@pytest.mark.parametrize("tags", [2, 3, 4])
@pytest.mark.parametrize("near", [1.0, 1.03, 1.3])
@pytest.mark.parametrize("count", [3, 5])
def test_neighbours_values_lie_beside_each_other(
    tmp_path: Path, width: float, tags: int, near: float, count: int
) -> None:
    each_s = 4.0
    rows = []
    for k in range(int(count * each_s * 20)):
        made = answered(50.0 * k, 14.3 * near ** (k % tags) * (1.0 + k % 7 / 10), tag=f"tenant-{k % tags}")
        made.phase = min(count - 1, int(made.begun_us / 1e6 / each_s))
        rows.append(made)
    rows[1].error = rows[2].error = "timeout"
    spans = [Phase(f"phase {k}", k * each_s, (k + 1) * each_s, rate_per_s=20.0) for k in range(count)]
    subject = load([saved(tmp_path / "phases", run(rows, plan=plan_of(len(rows), phases=spans)))])
    canvas = phases.draw(subject, None, width)
    assert wrong(canvas) == []
    told = [one for one, box in texts(canvas) if box.left > phases.LEFT and one[0].isdigit() and "failed" not in one]
    if count == 3 and tags < 4:
        assert len(told) >= 2 * tags * count  # none is left out


@WIDTHS
@pytest.mark.parametrize("direct_ms", [35.0, 99.62, 140.0])
def test_the_price_has_room_at_the_end_of_its_bar(width: float, direct_ms: float) -> None:
    parts = {"auth": 1.0, "queue": 0.0, "wake": 60.0, "engine": 30.0, "network": 9.0}
    fall = Waterfall("t", 5, parts, direct_ms)
    canvas = waterfall.draw([fall, fall], width)
    assert wrong(canvas) == []
    price = next(box for one, box in texts(canvas) if one[0] in "+\N{MINUS SIGN}")
    bars = [float(one.get("x", 0)) + float(one.get("width", 0)) for one in ET.fromstring(canvas.svg()).iter("rect")]
    assert max(bars[1:5]) + 5 <= price.left


def test_a_bar_of_seconds_has_room_for_its_digits() -> None:
    fall = Waterfall("t", 5, {"wake": 1_234_567.0, "engine": 1_000_000.0}, 100_000.0)
    assert wrong(waterfall.draw([fall], NARROW)) == []


@WIDTHS
def test_a_legend_that_is_wider_than_a_phone_has_lines(width: float) -> None:
    canvas = Canvas(width, 0.0, "t")
    entries = [("direct", "straight to the engine; line: median, shade to p95"),
               ("through", "through Roundhouse; line: median, shade to p95"), ("bad", "failed")]  # fmt: skip
    canvas.height = canvas.legend((78.0, 12.0), entries, width - 14)
    assert wrong(canvas) == []
    assert " ".join(one for one, _ in texts(canvas)) == " ".join(said for _, said in entries)


def test_the_slowest_of_a_few_are_not_called_the_slowest_twentieth_of_them() -> None:
    made = [answered(10.0 * place, float(place), through=True) for place in range(10, 35)]
    slow = falls(made)[1]
    assert (slow.title, slow.requests) == ("Slowest 5%, at least 5 requests", 5)
    # A side of which some failed is found by the same title.
    assert falls(made[3:])[1].title == falls([*made, *made, *made, *made])[1].title == slow.title


@given(some_words, st.floats(20, 400))
def test_lines_hold_all_words_and_are_no_wider_than_they_may_be(text: str, width: float) -> None:
    lines = wrapped(text, width)
    assert " ".join(lines) == text
    assert all(text_width(line) <= width or " " not in line for line in lines)
    assert text_width(cut(text, width)) <= width or cut(text, width) == "…"


def test_wide_letters_and_bold_ones_take_more() -> None:
    assert text_width("illi") < text_width("abcd") < text_width("MWmw") < text_width("模型模型")
    assert text_width("+0.380 ms") < text_width("+0.380 ms", bold=True)


@st.composite
def loads(draw: st.DrawFn) -> list[Row]:
    """Of one to six models, from microseconds to minutes, a few or hundreds, some failed, some that waited."""
    names = draw(st.lists(st.text("abcm-.018", min_size=1, max_size=30), min_size=1, max_size=6, unique=True))
    middle = draw(st.floats(-2, 5))  # of ten, in milliseconds
    spread = draw(st.floats(0, 3))
    apart_ms = draw(st.sampled_from([0.5, 20.0, 700.0]))
    shares = draw(st.lists(st.floats(0, 1), min_size=3, max_size=60))
    bad, slow = draw(st.sampled_from([0, 3, 7])), draw(st.sampled_from([0, 2, 11]))
    rows = []
    for k, share in enumerate(shares * draw(st.sampled_from([1, 4]))):
        ttft_ms = min(10.0 ** (middle + spread * (share - 0.5)), 600_000.0)
        woke = bool(slow) and k % slow == 1
        made = woken(apart_ms * k, ttft_ms + 2.0) if woke else answered(apart_ms * k, ttft_ms, through=True)
        made.model = names[k % len(names)]
        made.error = "timeout" if bad and k % bad == 2 else ""
        rows.append(made)
    return rows


@settings(max_examples=40)
@given(loads())
def test_whatever_was_measured_no_words_are_cut_off_or_on_others(rows: list[Row]) -> None:
    with TemporaryDirectory() as folder:
        subject = load([saved(Path(folder) / "any", run(rows))])
        drawn = "".join(gallery(subject, analysed(subject, NO_SLO)))
    pictures = [ET.fromstring(one) for one in re.findall(r"<svg.*?</svg>", drawn, re.DOTALL)]
    assert len(pictures) >= 2
    assert [problem for picture in pictures for problem in amiss(picture)] == []


@given(st.lists(st.tuples(st.floats(0, 90), st.floats(0, 90)), max_size=20))
def test_no_two_words_get_one_place(spots: list[tuple[float, float]]) -> None:
    places = Places(Box(0.0, 0.0, 100.0, 100.0))
    for x, y in spots:
        places.spot("word", [Spot(x, y), Spot(x, y, "end")])
    assert all(box.inside(places.whole) for box in places.taken)
    assert not any(one.meets(other) for one, other in combinations(places.taken, 2))
