"""The page: whole, self-contained, and with every part that its kind of report has."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from loadtests.load.plan import Phase
from loadtests.outcome.slo import NO_SLO, Slo
from loadtests.report.analysis import analysed
from loadtests.report.page import page
from loadtests.report.sides import Subject, load
from loadtests.report.style import COLOURS
from tests.loadtests.report.made import plan_of, rows_at, run, saved, saved_pairs, service_of

_EMPTY = {"meta", "link"}


class Outline(HTMLParser):
    """Headings, what is in the cards and badges, and whether every tag has its end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in _EMPTY:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.texts[tag][-1] += data


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    found.close()
    assert found.open == []
    return found


def shown(subject: Subject, slo: Slo = NO_SLO) -> Outline:
    return outline(page(subject, analysed(subject, slo)))


@pytest.fixture
def single(tmp_path: Path) -> Subject:
    phases = [Phase("calm", 0, 3, rate_per_s=20.0), Phase("spike", 3, 6, rate_per_s=20.0)]
    service = service_of(6.0, m=[(0.0, "disk", 0), (1.0, "page_cache", 0), (2.0, "gpu", 1), (4.0, "gpu", 2)])
    rows = rows_at(np.random.default_rng(0), 120)
    return load([saved(tmp_path / "one", run(rows, plan=plan_of(120, phases=phases), service=service))])


@pytest.fixture
def costs(tmp_path: Path) -> Subject:
    rng = np.random.default_rng(0)
    sides = ([run(rows_at(rng, 110, through=through)) for _ in range(3)] for through in (False, True))
    return load([saved_pairs(tmp_path / "cost", *sides)])


_PARTS, _OVER_TIME = "Where the time to the first token goes", "Time to the first token over the run"
_TABLES = ["Figures", "Parts of the mean TTFT", "Goals"]
_WORDS = (*_TABLES, "Read it with care", "Details")
GOLDEN = {
    "single": [_OVER_TIME, "Phase by phase", _PARTS, "Distribution", *_TABLES, "Read it with care", "Details"],
    "costs": [_PARTS, "What changed", _OVER_TIME, "Distribution", *_TABLES, "Details"],
}


@pytest.mark.parametrize("kind", ["single", "costs"])
def test_its_sections_are_these_in_this_order(kind: str, request: pytest.FixtureRequest) -> None:
    found = shown(request.getfixturevalue(kind))
    assert found.texts["h2"] == GOLDEN[kind]
    pictures = len([title for title in GOLDEN[kind] if title not in _WORDS])
    assert found.tags.count("figure") == pictures
    assert found.tags.count("svg") == 2 * pictures  # for a screen and for a phone
    assert found.texts["h1"][0].startswith(
        "Load test: steady" if kind == "single" else "What Roundhouse costs in latency"
    )


@pytest.mark.parametrize("kind", ["single", "costs"])
def test_it_needs_nothing_else(kind: str, request: pytest.FixtureRequest) -> None:
    subject = request.getfixturevalue(kind)
    text = page(subject, analysed(subject, NO_SLO))
    found = outline(text)
    assert not {"script", "img", "iframe", "object"} & set(found.tags)
    assert [value for name, value in found.attributes if name in ("src", "href")] == ["data:,"]
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "url(" not in text
    assert "@import" not in text


def test_few_requests_have_no_curve(tmp_path: Path) -> None:
    found = shown(load([saved(tmp_path / "few", run(rows_at(np.random.default_rng(0), 19)))]))
    assert "Distribution" not in found.texts["h2"]


def test_a_run_of_many_models_has_them_side_by_side(tmp_path: Path) -> None:
    rows = [one for name in "abcde" for one in rows_at(np.random.default_rng(0), 10, model=name)]
    found = shown(load([saved(tmp_path / "many", run(rows))]))
    assert found.texts["h2"][:2] == [_OVER_TIME, "Model by model"]


def test_colours_are_those_of_both_themes(single: Subject) -> None:
    text = page(single, analysed(single, NO_SLO))
    assert set(re.findall(r"var\(--([a-z0-9_-]+)\)", text)) <= set(COLOURS)
    light, dark = text.split("prefers-color-scheme:dark", 1)
    for name, (day, night) in COLOURS.items():
        assert f"--{name}:{day}" in light
        assert f"--{name}:{night}" in dark


def test_pictures_say_what_they_show_to_those_who_do_not_see_them(costs: Subject) -> None:
    found = shown(costs)
    assert len([value for name, value in found.attributes if name == "aria-label" and value]) == found.tags.count("svg")
    assert "network" in found.texts["desc"][0]


def test_no_coordinate_is_beyond_its_picture_or_no_number(single: Subject) -> None:
    text = page(single, analysed(single, NO_SLO))
    assert "nan" not in text.lower().replace("tenan", "")
    assert "inf" not in re.sub(r"<[^<]*?(title|desc)>[^<]*", "", text.split("<svg", 1)[1]).split("</svg>")[0]
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
        assert box is not None
        wide, high = float(box[1]), float(box[2])
        for x, y in re.findall(r'<text x="([-\d.]+)" y="([-\d.]+)"', svg):
            assert 0 <= float(x) <= wide
            assert 0 <= float(y) <= high


def test_a_missed_goal_and_a_run_that_is_not_valid_are_seen_at_once(tmp_path: Path) -> None:
    rows = rows_at(np.random.default_rng(0), 60, late_ms=90.0)
    subject = load([saved(tmp_path / "late", run(rows))])
    found = shown(subject, Slo(ttft_ms={"p50": 0.5}))
    badges = page(subject, analysed(subject, Slo(ttft_ms={"p50": 0.5}))).split("badges", 2)[2][:600]
    assert "1 of 2 goals missed" in badges
    assert "not valid" in badges
    assert any("left late" in text for text in found.texts["li"])


def test_names_of_a_service_are_text(tmp_path: Path) -> None:
    rows = rows_at(np.random.default_rng(0), 60)
    for number, one in enumerate(rows):
        one.model = "m" if number % 2 else "<script>alert(1)</script>"
        one.error, one.message = ("<u>bad</u>", "&<u>") if number == 7 else ("", "")
    service = service_of(3.0, **{"<script>x</script>": [(0.0, "gpu", 1)]})
    subject = load([saved(tmp_path / "x", run(rows, service=service))])
    found = shown(subject)
    assert not {"script", "u"} & set(found.tags)
    assert any("<script>" in text for text in found.texts["td"])


def test_nothing_answered_is_a_page_too(tmp_path: Path) -> None:
    rows = rows_at(np.random.default_rng(0), 20)
    for one in rows:
        one.error, one.first_token_us, one.first_byte_us = "timeout", None, None
    subject = load([saved(tmp_path / "x", run(rows))])
    text = page(subject, analysed(subject, NO_SLO))
    assert "nothing was answered" in text
    assert "timeout" in outline(text).texts["details"][0]


def test_answers_that_are_not_streamed_have_latencies_instead(tmp_path: Path) -> None:
    rows = rows_at(np.random.default_rng(0), 120)
    for one in rows:
        one.first_token_us, one.gaps_us, one.stream = None, [], False
    found = shown(load([saved(tmp_path / "x", run(rows))]))
    assert "Where the time of an answer goes" in found.texts["h2"]
    assert "Latency over the run" in found.texts["h2"]
