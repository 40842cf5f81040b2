"""Input files: what is a request, what is not, and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.batches.lines import BadLine, Line, check, parse, read
from gateway.batches.records import LineError

PATH = "/v1/chat/completions"
GOOD = {"custom_id": "a", "method": "POST", "url": PATH, "body": {"model": "m", "messages": []}}


def raw(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def test_a_good_line_keeps_its_body_as_it_is() -> None:
    text = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m",  "seed":1.50}}'
    assert parse(7, text, PATH, 1000) == Line(7, "a", "m", b'{"model":"m",  "seed":1.50}')


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (b"nonsense", "invalid_json_line", None),
        (b"[1]", "invalid_json_line", None),
        (b'{"custom_id": 1}', "invalid_json_line", None),
        (b'"\xff"', "invalid_json_line", None),
        (b"[" * 100_000, "invalid_json_line", None),
        (raw(custom_id=None), "missing_required_parameter", "custom_id"),
        (raw(custom_id="x" * 513), "missing_required_parameter", "custom_id"),
        (raw(method="post"), "invalid_method", "method"),
        (raw(url="https://api.openai.com" + PATH), "mismatched_endpoint", "url"),
        (raw(body={"model": 1}), "missing_required_parameter", "body.model"),
        (raw(body={"model": ""}), "missing_required_parameter", "body.model"),
        (raw(body={"model": "m", "stream": True}), "invalid_request", "body.stream"),
        (raw(body={"model": "m", "background": True}), "invalid_request", "body.background"),
    ],
)
def test_what_is_wrong_is_named(line: bytes, code: str, param: str | None) -> None:
    with pytest.raises(BadLine) as bad:
        parse(3, line, PATH, 1 << 20)
    error = bad.value.error
    assert (error.code, error.param, error.line) == (code, param, 3)


@given(st.binary(max_size=200))
def test_whatever_a_line_holds_it_is_read_or_refused(line: bytes) -> None:
    with pytest.raises(BadLine):  # no random bytes are a request
        parse(1, line, PATH, 1000)


def test_blank_lines_count_but_are_none(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"\n" + raw() + b"\r\n  \n" + raw(custom_id="b"))
    found = list(read(path, PATH, 1000))
    assert [(line.number, line.custom_id) for line in found if isinstance(line, Line)] == [(2, "a"), (4, "b")]
    assert [line.number for line in read(path, PATH, 1000, behind=2) if isinstance(line, Line)] == [4]
    assert check(path, PATH, 1000).total == 2


def test_a_line_as_long_as_a_book_is_refused_and_the_next_one_read(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"x" * 300_000 + b"\n" + raw() + b"\n" + b"y" * 300_000)
    first, second, third = read(path, PATH, 1000)
    assert isinstance(first, LineError)
    assert (first.code, first.line) == ("line_too_large", 1)
    assert isinstance(second, Line)
    assert isinstance(third, LineError)


def test_a_line_of_just_the_size_of_a_request(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(raw() + b"\r\n" + raw(custom_id="b"))
    size = len(raw())
    assert all(isinstance(line, Line) for line in read(path, PATH, size))
    assert not any(isinstance(line, Line) for line in read(path, PATH, size - 1))


def test_checking_tells_the_model_and_stops_at_enough(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"\n".join(raw(custom_id=str(number)) for number in range(10)))
    assert check(path, PATH, 1000).model == "m"
    assert check(path, PATH, 1000, most_lines=10).errors == ()
    assert [error.code for error in check(path, PATH, 1000, most_lines=9).errors] == ["too_many_lines"]
    path.write_bytes(raw() + b"\n" + raw(custom_id="b", body={"model": "other"}))
    assert check(path, PATH, 1000).model is None
    path.write_bytes(b"x\n" * 5000)
    assert len(check(path, PATH, 1000).errors) == 100
