"""S1: what a request names by URL is not fetched, unless from a host that the configuration names."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.endpoints import by_path
from gateway.errors import InvalidRequest
from gateway.greed import Caps
from gateway.image_urls import embedded_bytes, is_allowed, urls_in
from gateway.peek import peek

PATHS = by_path()
HOSTS = frozenset({"images.example", "files.example:8443"})
DATA = "data:image/png;base64,iVBORw0KGgo="
ELSEWHERE = "http://169.254.169.254/latest/meta-data"


def ask(body: dict[str, Any], path: str = "/v1/chat/completions", hosts: frozenset[str] = HOSTS) -> None:
    for ascii_only in (True, False):
        peek(json.dumps({"model": "m", **body}, ensure_ascii=ascii_only).encode(), PATHS[path], Caps(), hosts)


def refused(body: dict[str, Any], path: str = "/v1/chat/completions") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        ask(body, path)
    assert (error.value.status, error.value.code) == (400, "invalid_url")
    return error.value


def said(part: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": "system", "content": "Look."}, {"role": role, "content": [part]}]}


def everywhere(url: str) -> list[tuple[str, dict[str, Any]]]:
    """All the ways in which callers name something to be fetched."""
    chat = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}, "uuid": "1"},
        {"type": "video_url", "video_url": {"url": url}},
        {"type": "audio_url", "audio_url": {"url": url}},
        {"image_url": url},
        {"type": "input_image", "image_url": url},
    ]
    image = {"type": "image", "source": {"type": "url", "url": url}}
    part = {"type": "image_url", "image_url": {"url": url}}
    return [
        *(("/v1/chat/completions", said(each)) for each in chat),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}),
        ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": url}]}]}),
        ("/v1/responses", {"input": [{"type": "function_call_output", "output": [{"image_url": url}]}]}),
        ("/v1/messages", said(image)),
        ("/v1/messages", said({"type": "document", "source": {"type": "url", "url": url}})),
        ("/v1/messages", said({"type": "tool_result", "content": [image]})),
        ("/v1/embeddings", said(part)),
        ("/pooling", said(part)),
        ("/v1/rerank", {"query": "a", "documents": [part]}),
        ("/v1/rerank", {"query": {"content": [part]}, "documents": ["a"]}),
        ("/v1/rerank", {"query": "a", "documents": {"content": [part]}}),
        ("/v1/score", {"text_1": "a", "text_2": {"content": [part]}}),
        ("/v1/score", {"queries": "a", "documents": {"content": [part]}}),
        ("/v1/score", {"data_1": {"content": [part]}, "data_2": "a"}),
    ]


@pytest.mark.parametrize(("path", "body"), everywhere(ELSEWHERE))
def test_no_way_to_name_something_elsewhere(path: str, body: dict[str, Any]) -> None:
    error = refused(body, path)
    assert "169.254.169.254" in error.message
    assert "images.example" in error.message, "it says what is allowed"
    assert error.param is not None
    assert error.param.split("[")[0].split(".")[0] in body


@pytest.mark.parametrize(("path", "body"), [*everywhere(DATA), *everywhere("https://images.example/cat.png")])
def test_all_ways_are_open_to_content_and_to_hosts_that_are_named(path: str, body: dict[str, Any]) -> None:
    ask(body, path)


def test_it_is_said_where_in_the_request_it_is() -> None:
    part = {"type": "image_url", "image_url": {"url": ELSEWHERE}}
    assert refused(said(part)).param == "messages[1].content[0].image_url.url"


@pytest.mark.parametrize("name", ["image\\u005furl", "\\u0069mage_url", "image_ur\\u006c", "image_\\u0075rl"])
def test_names_that_are_written_in_another_way_are_found(name: str) -> None:
    body = f'{{"model":"m","messages":[{{"role":"user","content":[{{"{name}":"http://10.0.0.1/"}}]}}]}}'
    with pytest.raises(InvalidRequest, match=r"10\.0\.0\.1"):
        peek(body.encode(), PATHS["/v1/chat/completions"], Caps(), HOSTS)


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/cat.png",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://images.example/cat.png",
        "//images.example/cat.png",
        "/etc/passwd",
        "",
        " https://images.example/cat.png",
        "https://images.example@other.example/",
        "https://other.example\\@images.example/",
        "https://images.example\n.other.example/",
        "https://images.example.other.example/",
        "https://images.example:22/",
        "http://images.example:443/",
        "https://files.example/",
        "https://files.example:8444/",
        "https://images.example:x/",
        "https://[images.example/",
        "https://ímages.example/",
    ],
)
def test_urls_that_are_not_on_the_list(url: str) -> None:
    assert not is_allowed(url, HOSTS)
    refused(said({"type": "image_url", "image_url": {"url": url}}))


@pytest.mark.parametrize(
    "url",
    [
        DATA,
        "DATA:image/png;base64,AA==",
        "https://images.example/a?b=c#d",
        "http://IMAGES.example:80/",
        "https://images.example:443/",
        "https://files.example:8443/a",
    ],
)
def test_urls_that_are(url: str) -> None:
    assert is_allowed(url, HOSTS)


def test_nothing_is_allowed_where_nothing_is_named() -> None:
    assert not is_allowed("https://images.example/", ())
    assert is_allowed(DATA, ())


@pytest.mark.parametrize("url", [5, ["http://10.0.0.1/"], True])
def test_what_is_no_text_is_no_url(url: Any) -> None:
    refused(said({"type": "image_url", "image_url": {"url": url}}))


def test_text_about_urls_is_text() -> None:
    ask({"messages": [{"role": "user", "content": f'["image_url": "{ELSEWHERE}"]'}]})
    ask(said({"type": "text", "text": f'{{"image_url": "{ELSEWHERE}", "url": "é"}}'}))
    cited = {"type": "url_citation", "url_citation": {"url": ELSEWHERE, "title": "a"}}
    ask({"messages": [{"role": "assistant", "content": [{"type": "text", "text": "a"}], "annotations": [cited]}]})
    ask(said({"type": "image_url", "image_url": None}))
    tool = {"type": "function", "function": {"parameters": {"properties": {"image_url": {"default": ELSEWHERE}}}}}
    ask({**said({"type": "text", "text": "a"}), "tools": [tool]})


def test_deep_content_cannot_exhaust_the_stack() -> None:
    deep: Any = {"image_url": ELSEWHERE}
    for _ in range(300):
        deep = {"content": [deep]}
    refused(said(deep))


def test_content_that_came_along_is_measured() -> None:
    raw = json.dumps(said({"image_url": {"url": "data:image/png;base64," + "A" * 5000}})).encode()
    assert 5000 <= embedded_bytes(raw) < 5100
    assert embedded_bytes(raw[:-20]) <= 5100
    assert embedded_bytes(b'{"a":"b"}') == 0


def spelled(document: Any, escaped: Callable[[], bool]) -> str:
    """JSON with some letters written as \\u escapes, as anybody may."""
    if isinstance(document, str):
        return '"' + "".join(f"\\u{ord(each):04x}" if escaped() else each for each in document) + '"'
    if isinstance(document, list):
        return "[" + ",".join(spelled(each, escaped) for each in document) + "]"
    if isinstance(document, dict):
        pairs = (f"{spelled(name, escaped)}:{spelled(value, escaped)}" for name, value in document.items())
        return "{" + ",".join(pairs) + "}"
    return json.dumps(document)


_names = st.sampled_from(["image_url", "video_url", "url", "source", "type", "content", "text"])
_values = st.sampled_from(["http://10.0.0.1/", DATA, "url", "image_url", None, 5])
_content = st.recursive(
    _values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3), max_leaves=12
)


@given(st.lists(_content, max_size=3), st.randoms(use_true_random=False), st.floats(0, 1))
def test_however_it_is_written_nothing_gets_by(content: list[Any], random: Any, often: float) -> None:
    messages = [{"role": "user", "content": content}]
    elsewhere = [url for _, url in urls_in(messages, "") if not isinstance(url, str) or not is_allowed(url, HOSTS)]
    text = spelled({"model": "m", "messages": messages}, lambda: random.random() < often)
    try:
        peek(text.encode(), PATHS["/v1/chat/completions"], Caps(), HOSTS)
    except InvalidRequest:
        assert elsewhere
    else:
        assert not elsewhere
