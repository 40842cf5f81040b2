"""The text that everything is learned from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.demo.chat import JSON_SECTION, THEMES, TONGUES_SECTION
from models.demo.corpus import CORPUS_FILE, read_corpus


def test_it_has_a_section_for_each_theme_and_for_each_purpose() -> None:
    assert set(read_corpus()) == {*THEMES, "everyday", JSON_SECTION, TONGUES_SECTION}


def test_every_theme_has_enough_to_say() -> None:
    sections = read_corpus()
    for theme in THEMES:
        assert sum(map(len, sections[theme])) > 5_000, theme


def test_the_json_in_it_is_json() -> None:
    for paragraph in read_corpus()[JSON_SECTION]:
        json.loads(paragraph.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))


def test_it_ships_as_a_small_file() -> None:
    assert 20_000 < CORPUS_FILE.stat().st_size < 40_000


def test_blank_lines_part_paragraphs_and_line_breaks_stay_inside(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("## one\n\nfirst\nstill first\n\nsecond\n\n## two\n\nthird\n")
    assert read_corpus(file) == {"one": ("first\nstill first", "second"), "two": ("third",)}


def test_text_without_a_heading_is_refused_with_the_cure(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("lost\n\n## one\n\nfirst\n")
    with pytest.raises(ValueError, match="put a heading above it"):
        read_corpus(file)
