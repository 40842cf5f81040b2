"""Images, sound and video named by URL in a request: engines would fetch them, so callers may not say from where.

Taken are data: URLs, and http(s) ones of hosts that the configuration names. Everything else would let a caller make
an engine ask other machines of its network, or read its files. Redirects and private addresses of an allowed host are
the engine's part: it is started without redirects.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway.errors import InvalidRequest

PARTS = ("image_url", "audio_url", "video_url", "file_url")  # OpenAI, Responses and vLLM; a URL or an object with one
DATA = "data:"
BASE64 = b";base64,"
_ESCAPED = re.compile(rb"\\u00[2-7]")  # a letter written so that it is not found as one
_SHOWN = 100


def may_have_urls(raw: bytes) -> bool:
    """Cheaper than to look, and never wrongly no: all names under which a URL is fetched end in url."""
    return b'url"' in raw or (b"\\" in raw and _ESCAPED.search(raw) is not None)


def embedded_bytes(raw: bytes) -> int:
    """What is not text: content sent along in data: URLs or beside them."""
    total, end = 0, 0
    while (start := raw.find(BASE64, end)) >= 0:
        end = raw.find(b'"', start)
        if end < 0:
            break
        total += end - start
    return total


def refuse_urls(raw: bytes | memoryview, hosts: frozenset[str], param: str) -> None:
    """``raw``: the JSON of a conversation. Raises InvalidRequest."""
    try:
        conversation = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as malformed:
        # Until now its texts and numbers were only passed over.
        raise InvalidRequest(
            f"The body is not valid JSON: {malformed}.", param=param, code="invalid_json"
        ) from malformed
    for where, url in urls_in(conversation, param):
        if not isinstance(url, str) or not is_allowed(url, hosts):
            raise InvalidRequest(_refusal(url, hosts), param=where, code="invalid_url")


def is_allowed(url: str, hosts: Collection[str]) -> bool:
    """Nothing that two readers of URLs may read differently passes."""
    if url[:5].lower() == DATA:
        return True
    if not hosts or not url.isascii() or not url.isprintable() or any(mark in url for mark in ' \\@"<>'):
        return False
    try:
        parts = urlsplit(url)
        usual = parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme))
        # With a port of its own a host has to be named with it.
        where = parts.hostname if usual else parts.netloc.lower()
        return parts.scheme in ("http", "https") and where in hosts
    except ValueError:
        return False


def urls_in(document: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Where, and what. Nothing recursive: documents may be nested as deeply as the JSON decoder allows."""
    todo = [(path, document)]
    while todo:
        where, node = todo.pop()
        if isinstance(node, list):
            todo += [(f"{where}[{index}]", item) for index, item in enumerate(node) if isinstance(item, dict | list)]
        elif isinstance(node, dict):
            for name, value in node.items():
                if name in PARTS:
                    yield from _of_part(f"{where}.{name}", value)
                elif name == "source" and isinstance(value, dict) and value.get("type") == "url":  # Anthropic
                    yield f"{where}.source.url", value.get("url")
                elif isinstance(value, dict | list):
                    todo.append((f"{where}.{name}", value))


def _of_part(where: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        value, where = value.get("url"), f"{where}.url"
    if value is not None:
        yield where, value


def _refusal(url: Any, hosts: Collection[str]) -> str:
    said = f"'{url[:_SHOWN]}'" if isinstance(url, str) else "what is no text"
    allowed = f", or a URL on {', '.join(sorted(hosts))}" if hosts else ""
    return f"The URL {said} is not fetched from here. Send the content itself as 'data:...;base64,...'{allowed}."
