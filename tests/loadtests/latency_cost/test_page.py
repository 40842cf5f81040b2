"""Rows that are measured stand in a page between two comments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.latency_cost.page import PageError, filled

PAGE = """# Title
text

<!-- one -->
| a | b |
| --- | ---: |
| old | 1 |
<!-- end of one -->
between
<!-- two -->
| c |
| --- |
<!-- end of two -->
"""


def test_rows_take_the_place_of_those_before_and_nothing_else_changes() -> None:
    made = filled(PAGE, "one", [["new", "2"], ["newer", "3"]])
    assert "| new | 2 |\n| newer | 3 |\n<!-- end of one -->" in made
    assert "old" not in made
    assert made.replace("| new | 2 |\n| newer | 3 |\n", "| old | 1 |\n") == PAGE


def test_an_empty_table_is_filled_too() -> None:
    assert "| --- |\n| x |\n<!-- end of two -->" in filled(PAGE, "two", [["x"]])


def test_how_it_came_about_stands_under_the_table_and_is_replaced_with_it() -> None:
    once = filled(PAGE, "one", [["new", "2"]], "Yesterday.")
    assert "| new | 2 |\n\nYesterday.\n<!-- end of one -->" in once
    again = filled(once, "one", [["newer", "3"]], "Today.")
    assert "| newer | 3 |\n\nToday.\n<!-- end of one -->" in again
    assert "Yesterday" not in again
    assert filled(again, "one", [["old", "1"]]) == PAGE


def test_what_would_break_the_table_is_escaped() -> None:
    assert "| a \\| b c |" in filled(PAGE, "two", [["a | b\nc"]])


@pytest.mark.parametrize(
    ("name", "rows", "why"),
    [
        ("three", [], "no table between <!-- three --> and <!-- end of three -->"),
        ("one", [["only"]], "has 2 columns, not 1"),
    ],
)
def test_rows_that_have_no_place_are_refused(name: str, rows: list[list[str]], why: str) -> None:
    with pytest.raises(PageError, match=why):
        filled(PAGE, name, rows)


def test_a_table_without_a_heading_is_none() -> None:
    with pytest.raises(PageError, match="has no heading"):
        filled("<!-- one -->\n<!-- end of one -->\n", "one", [])


@given(st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=4))
def test_filling_twice_is_filling_once(rows: list[tuple[str, str]]) -> None:
    once = filled(PAGE, "one", rows)
    assert filled(once, "one", rows) == once
    assert filled(once, "one", [["old", "1"]]) == PAGE
