"""Every target holds for hypothesis's inputs, and for all that were ever found to break one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"

HEAD = [
    b"POST /v1/chat/completions HTTP/1.1\r\n", b"GET / HTTP/1.0\r\n", b"host: a\r\n", b"content-length: 5\r\n",
    b"x: y\r\n", b"transfer-encoding: chunked\r\n", b"connection: close, x\r\n", b"authorization: Bearer k\r\n",
    b"expect: 100-continue\r\n", b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"\xfe\xfe", b"%2f", b"http://a/b",
    b"HTTP/1.1 200 OK\r\n", b"x-request-id: 1\r\n", b"Content-Length:\t12  \r\n",
    b"content-type: text/event-stream\r\n", b"upgrade: websocket\r\n",
]  # fmt: skip
FRAMES = [
    b"5\r\nhello\r\n", b"0\r\n\r\n", b"\r\n", b"\n", b"1\r\n", b"a", b";x=y", b"0\r\n", b"x-trailer: 1\r\n",
    b"ffffffff\r\n", b"6\r\nab\n\n\n\n\r\n", b"4\r\na\r\n\r\n", b" ", b"data: 1\n\n", b"\r\n\r\n", b"\n\n",
    b"10\r\n",
]  # fmt: skip
JSON = [
    b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"null", b"true", b"1e9", b"-0", b'"model"', b'"m"',
    b'"stream"', b'"usage":', b'{"prompt_tokens":1,"completion_tokens":2}',
    b'data: {"usage":{"prompt_tokens":3}}\n\n', b'"messages"', b'"n"', b"\\u0075", b'"image_url"', b'"url"',
    b'{"model":"m"}', b'{"model":"m","stream":true,"messages":[]}', b"\n", b'"usage":null', b" ",
    b'"source":{"type":"url","url":"x"}', b'"response":{"usage":{"input_tokens":1}}',
]  # fmt: skip
FORM = [
    b"--xyz\r\n", b"--xyz--\r\n", b'content-disposition: form-data; name="model"\r\n\r\n', b"m\r\n", b"\r\n",
    b'Content-Disposition: form-data; name="file"; filename="a"\r\n', b"content-type: audio/wav\r\n\r\n",
    b'name="stream"',
]  # fmt: skip
PACKED = [gzip.compress(b"x" * 5000, mtime=0), gzip.compress(b"", mtime=0), b"\x1f\x8b\x08", b"\0", b"x\x9c"]
WORDS = {
    "request_head": HEAD, "remembered_head": HEAD, "answer_head": HEAD, "chunks": FRAMES, "events_in_chunks": FRAMES,
    "events": FRAMES, "usage": JSON, "packed": PACKED, "body": JSON, "form": FORM, "nesting": JSON, "urls": JSON,
}  # fmt: skip


def test_every_target_has_its_words() -> None:
    assert set(WORDS) == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str) -> None:
    words = st.one_of(st.sampled_from(WORDS[name]), st.binary(max_size=6))
    mixed = st.builds(lambda start, parts: start + b"".join(parts), st.binary(max_size=8), st.lists(words, max_size=14))

    @settings(max_examples=300, deadline=None)
    @given(mixed)
    def holds(data: bytes) -> None:
        TARGETS[name](data)

    holds()


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.floats(allow_nan=False, allow_infinity=False)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(
                st.sampled_from(["model", "stream", "image_url", "url", "usage", "messages", "n"]), st.text(max_size=6)
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=15,
)


@pytest.mark.parametrize("name", ["body", "nesting", "urls", "usage"])
def test_any_json(name: str) -> None:
    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=1), json_values, st.booleans())
    def holds(start: bytes, document: object, escaped: bool) -> None:
        TARGETS[name](start + json.dumps(document, ensure_ascii=escaped).encode())
        TARGETS[name](json.dumps(document, ensure_ascii=escaped).encode())

    holds()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=30), max_size=6), st.binary(max_size=7), st.binary(max_size=10))
def test_good_chunks_in_any_pieces(parts: list[bytes], cuts: bytes, after: bytes) -> None:
    framed = b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\nx: y\r\n\r\n" + after
    TARGETS["chunks"](bytes((len(cuts),)) + bytes(cut % 40 for cut in cuts) + framed)


def found() -> list[Path]:
    return sorted(path for path in CORPUS.glob("*/*") if path.parent.name in TARGETS)


@pytest.mark.parametrize("path", found(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_once_holds_now(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())
