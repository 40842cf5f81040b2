"""What is sent looks like a client library's requests, and varies where it is to vary."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

from loadtests.gateway.traffic import (
    HELD,
    PLAIN,
    chat,
    many_models,
    model_name,
    request,
    varied,
    write_requests,
)


def parsed(raw: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *fields = head.decode("ascii").split("\r\n")
    return line, {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}, body


def test_a_request_is_whole() -> None:
    line, headers, body = parsed(request(chat(PLAIN), "rh-secret"))
    assert line == "POST /v1/chat/completions HTTP/1.1"
    assert headers["authorization"] == "Bearer rh-secret"
    assert headers["content-length"] == str(len(body))
    assert len(headers) == 14
    assert 500 <= len(body) <= 700
    assert json.loads(body)["model"] == PLAIN


def test_streams_ask_for_their_usage() -> None:
    body = json.loads(chat(HELD, stream=True))
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert "stream" not in json.loads(chat(PLAIN))


def test_varied_requests_are_all_different_and_all_right() -> None:
    requests = varied("k", random.Random(5))
    heads = {raw.partition(b"\r\n\r\n")[0] for raw in requests}
    assert len(heads) == len(requests) == 256
    sizes = []
    for raw in requests:
        _, headers, body = parsed(raw)
        assert headers["content-length"] == str(len(body))
        assert headers["authorization"] == "Bearer k"
        assert headers["content-type"] == "application/json"
        assert json.loads(body)["model"] == PLAIN
        sizes.append(len(body))
    assert min(sizes) < 400
    assert max(sizes) > 4000
    assert len({len(head.split(b"\r\n")) for head in heads}) > 4


def test_varied_requests_are_the_same_for_everybody() -> None:
    assert varied("k", random.Random(5)) == varied("k", random.Random(5))
    assert varied("k", random.Random(5)) != varied("k", random.Random(6))


def test_requests_for_many_models_differ_in_nothing_else() -> None:
    requests = many_models("k", map(model_name, (0, 7, 9999)))
    assert len({len(raw) for raw in requests}) == 1
    assert len({raw.partition(b"\r\n\r\n")[0] for raw in requests}) == 1
    assert [json.loads(parsed(raw)[2])["model"] for raw in requests] == ["m-00000", "m-00007", "m-09999"]


def test_the_file_has_the_length_before_each(tmp_path: Path) -> None:
    requests = [b"GET / HTTP/1.1\r\n\r\n", b"x" * 70_000]
    raw = write_requests(tmp_path / "r", requests).read_bytes()
    found = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        found.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    assert found == requests
