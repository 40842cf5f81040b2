"""The caller's request id when it is harmless, else a new one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.request_ids import LONGEST, accept, new_request_id


@pytest.mark.parametrize("given_id", ["a", "req_1", "550e8400-e29b-41d4-a716-446655440000", "a.b:c-d_e", "x" * LONGEST])
def test_a_harmless_id_is_kept(given_id: str) -> None:
    assert accept(given_id) == given_id


@pytest.mark.parametrize(
    "given_id", [None, "", "x" * (LONGEST + 1), "a b", "a\n", "a\r\nset-cookie: x", "é", "<b>", "a/b", '"', "\x00"]
)
def test_anything_else_is_replaced(given_id: str | None) -> None:
    assert accept(given_id, make=lambda: "made") == "made"


@given(st.text(max_size=200))
def test_what_comes_out_is_always_safe_in_a_header(given_id: str) -> None:
    accepted = accept(given_id)
    assert 1 <= len(accepted) <= LONGEST
    assert accepted.isascii()
    assert accepted.isprintable()
    assert " " not in accepted


def test_new_ids_differ() -> None:
    assert len({new_request_id() for _ in range(1000)}) == 1000
