"""What is sent: chat requests as OpenAI's client library writes them, byte for byte."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

PATH = "/v1/chat/completions"
PLAIN, BURST, PACED, BRIEF, HELD = "m", "m", "m-paced", "m-brief", "m-held"
MODELS = (PLAIN, PACED, BRIEF, HELD)
VARIANTS = 256
_SYSTEM = (
    "You are a helpful assistant. Answer briefly and precisely, cite sources where you can, and say so when you do not "
    "know the answer to a question."
)
_QUESTION = (
    "Explain in two sentences how an HTTP reverse proxy with least outstanding requests balancing behaves when one of "
    "its two replicas becomes ten times slower than the other one, and what the client sees at the 99th percentile of "
    "latency."
)
_HEADERS = (
    ("Accept", "application/json"),
    ("Content-Type", "application/json"),
    ("User-Agent", "AsyncOpenAI/Python 2.8.0"),
    ("X-Stainless-Lang", "python"),
    ("X-Stainless-Package-Version", "2.8.0"),
    ("X-Stainless-OS", "Linux"),
    ("X-Stainless-Arch", "x64"),
    ("X-Stainless-Runtime", "CPython"),
    ("X-Stainless-Runtime-Version", "3.11.7"),
    ("X-Stainless-Async", "async:asyncio"),
    ("x-stainless-retry-count", "0"),
)


def chat(model: str, *, stream: bool = False, question: str = _QUESTION, **fields: Any) -> bytes:
    """The JSON body; about 600 bytes unless the question is another one."""
    body: dict[str, Any] = {"model": model}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body["messages"] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question}]
    body |= {"temperature": 0.7, "top_p": 0.95, "max_tokens": 128, **fields}
    return json.dumps(body, separators=(",", ":")).encode()


def request(body: bytes, key: str, headers: Sequence[tuple[str, str]] = _HEADERS) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {key}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def varied(key: str, rng: random.Random, count: int = VARIANTS) -> list[bytes]:
    """No two alike: other headers in another order, bodies of 0.3 to 8 KiB; no connection sends one twice in a row.

    A gateway that remembers what it parsed last gains nothing here.
    """
    found = []
    for number in range(count):
        headers = [*_HEADERS, ("X-Request-Id", f"{rng.getrandbits(128):032x}"), ("X-Session-Id", f"s-{number % 40}")]
        headers += [("Accept-Encoding", "gzip, deflate"), ("X-Forwarded-For", f"10.0.{number % 256}.7")]
        rng.shuffle(headers)
        kept = headers[: rng.randint(6, len(headers))]
        if not any(name == "Content-Type" for name, _ in kept):
            kept.append(("Content-Type", "application/json"))
        words = " ".join(f"w{rng.getrandbits(24):x}" for _ in range(int(2 ** rng.uniform(1, 10))))
        found.append(request(chat(PLAIN, question=f"{number}: {words}", temperature=round(rng.random(), 3)), key, kept))
    return found


def many_models(key: str, names: Iterable[str]) -> list[bytes]:
    return [request(chat(name), key) for name in names]


def model_name(number: int) -> str:
    """All of one length, so that requests that name them differ in nothing else."""
    return f"m-{number:05d}"


def write_requests(path: Path, requests: Iterable[bytes]) -> Path:
    """As the program ``load`` reads them. The file holds the key: it belongs into a private folder."""
    path.write_bytes(b"".join(struct.pack("<I", len(each)) + each for each in requests))
    return path
