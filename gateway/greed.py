"""Caps on what one request may ask of an engine: a greedy parameter is refused before it costs anything.

One request with ``n`` = 10000 stalled a plain vLLM for 11.5 s, for everybody. ``gateway.shapes`` turns most caps into
the types that bodies are decoded into, so that a request which keeps to them pays nothing; what is here names the
field that does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import msgspec

from gateway.errors import InvalidRequest

CODE = "parameter_above_limit"
MORE = "has more entries than"
_TEXTS = re.compile(rb'"[^"]*"')
_ROUND = bytes.maketrans(b"{}[]", b"()()")
_THE_REST = bytes(set(range(256)) - set(b'{}[]"'))


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that a caller may ask for. Raises ValueError where one is below 1."""

    n: int = 128
    images: int = 10  # ``n`` where pictures are made
    best_of: int = 128
    logprobs: int = 20  # also top_logprobs and prompt_logprobs
    logit_bias: int = 1024  # tokens named in it
    stop: int = 32  # sequences; also stop_token_ids and bad_words
    stop_characters: int = 1024  # of one of them
    max_tokens: int = 1 << 20
    prompts: int = 2048  # texts in one request
    tools: int = 512
    schema_depth: int = 100  # JSON levels of a schema, two per level of a type
    schema_bytes: int = 512 << 10  # of all schemas and grammars of a request

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"caps.{field.name} must be at least 1")


COUNTS: Mapping[str, str] = {  # parameter -> its cap
    "n": "n",
    "best_of": "best_of",
    "logprobs": "logprobs",
    "top_logprobs": "logprobs",
    "prompt_logprobs": "logprobs",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
}
SEQUENCES: Mapping[str, str] = {
    "stop": "stop",
    "stop_sequences": "stop",
    "stop_token_ids": "stop",
    "bad_words": "stop",
    "logit_bias": "logit_bias",
}
# What engines compile into automata or put into the prompt.
SCHEMAS = (
    "tools", "functions", "response_format", "output_format", "structured_outputs", "guided_json", "guided_regex",
    "guided_grammar", "guided_choice",
)  # fmt: skip


def judge(asked: Any, caps: Caps, *, pictures: bool = False) -> None:
    """``asked``: the parameters as attributes, of whatever JSON type. Raises InvalidRequest for what is above its cap.

    A wrong type is for the engine to judge; what an engine may read as a number counts as one.
    """
    for name, cap in COUNTS.items():
        most = caps.images if pictures and name == "n" else getattr(caps, cap)
        if _number(getattr(asked, name)) > most:
            raise above(name, "is above", most)
    for name, cap in SEQUENCES.items():
        value, most = getattr(asked, name), getattr(caps, cap)
        if isinstance(value, list | dict) and len(value) > most:
            raise above(name, MORE, most)
        if _longest(value) > caps.stop_characters:
            raise above(name, "has a sequence of more characters than", caps.stop_characters)


def check_schemas(given: Iterable[tuple[str, bytes]], caps: Caps) -> None:
    """``given``: field and its JSON. Raises InvalidRequest."""
    size_bytes = 0
    for name, raw in given:
        size_bytes += len(raw)
        if size_bytes > caps.schema_bytes:
            raise above(name, "has, with the schemas before it, more bytes than", caps.schema_bytes)
        if name in ("tools", "functions") and length(raw, caps.tools) > caps.tools:
            raise above(name, MORE, caps.tools)
        if is_deeper(raw, caps.schema_depth):
            raise above(name, "is nested more deeply than", caps.schema_depth)


def check_prompts(name: str, raw: bytes, caps: Caps, times: int = 1) -> None:
    """A list of texts, each answered so many ``times``; a list of numbers is one text, in tokens.

    Raises InvalidRequest.
    """
    most = max(1, caps.prompts // times)
    if length(raw, most) > most and not raw[1:].lstrip()[:1].isdigit():
        raise above(name, f"has, at {times} answers each, more entries than" if times > 1 else MORE, most)


def texts(raw: bytes) -> int:
    """How many there are; a list of numbers is one, in tokens."""
    return 1 if raw[1:].lstrip()[:1].isdigit() else max(1, length(raw, 0))


def above(name: str, how: str, most: int) -> InvalidRequest:
    return InvalidRequest(f"The parameter '{name}' {how} the {most} that this server allows.", param=name, code=CODE)


def length(raw: bytes, at_least: int) -> int:
    """Entries of a JSON list; 0 where ``raw`` is none, or too short to have more than ``at_least``."""
    if len(raw) <= 2 * at_least or not raw.startswith(b"["):
        return 0
    return len(msgspec.json.decode(raw, type=list[msgspec.Raw]))


def is_deeper(raw: bytes, levels: int) -> bool:
    """Whether well-formed JSON is nested more deeply. In C for the most part: 1 ns a byte.

    1. Only brackets and the quotes of texts are kept. 2. Texts go, with the brackets inside them; of neighbours that
    are gone as pairs the rest still closes what it opens. 3. Each pass takes the innermost level away, all over.
    """
    if raw.count(b"{") + raw.count(b"[") <= levels:
        return False
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    left = raw.translate(_ROUND, _THE_REST).replace(b'""', b"")  # 1
    if b'"' in left:
        left = _TEXTS.sub(b"", left)  # 2
    for _ in range(levels):  # 3
        left = left.replace(b"()", b"")
        if not left:
            return False
    return True


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        return float(value)
    except (ValueError, OverflowError):
        return 0 if isinstance(value, str) else float("inf")


def _longest(value: Any) -> int:
    texts = value if isinstance(value, list) else [value]
    return max((len(text) for text in texts if isinstance(text, str)), default=0)
