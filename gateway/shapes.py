"""The types that request bodies are decoded into: what the gateway looks at, with the caps built in.

A body that keeps to the caps passes msgspec's own checks, in C. Only one that does not is looked at again, without
types (``lax``): it may just be odd, which is for the engine to judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, Protocol, cast

import msgspec
from msgspec import Meta, Raw

from gateway.dialects import Dialect
from gateway.endpoints import Endpoint
from gateway.greed import COUNTS, SCHEMAS, SEQUENCES, Caps

# Of endpoints that compare texts, or take a conversation where others take a text; long lists, media, anything.
_TEXTS = ("messages", "text_2", "documents", "data_1", "data_2", "queries", "query", "items")


class Fields(Protocol):
    """What a body was decoded into. Raw ones are None where they are missing."""

    model: str | None
    stream: Any
    head: Raw | None  # the prompt field
    before: Raw | None  # what goes before it: system prompt, instructions
    cache_key: Raw | None
    n: Any
    best_of: Any
    max_tokens: Any
    max_completion_tokens: Any
    max_output_tokens: Any


@dataclass(frozen=True, slots=True)
class Shape:
    """Of the bodies of one endpoint. ``schemas`` and ``texts``: fields with such; ``*_of`` reads them all at once."""

    strict: msgspec.json.Decoder[Fields]
    lax: msgspec.json.Decoder[Fields]
    pictures: bool
    generates: bool
    batch: bool  # the prompt field may be a list of prompts
    schemas: tuple[str, ...]
    schemas_of: Callable[[Fields], tuple[Raw | None, ...]]
    no_schemas: tuple[None, ...]
    texts: tuple[str, ...]
    answer_of: Callable[[Fields], Any]  # the most tokens that the answer may have, as the caller says it there


def shape_of(endpoint: Endpoint, caps: Caps) -> Shape:
    """Slow: made once per endpoint."""
    generates, pictures = endpoint.capability == "generate", endpoint.capability == "image"
    responses = endpoint.dialect is Dialect.RESPONSES
    schemas = (*SCHEMAS, "text") if responses else SCHEMAS
    texts = () if generates else tuple(name for name in _TEXTS if name != endpoint.prompt_field)
    rename = {"model": endpoint.model_field, "head": endpoint.prompt_field, "cache_key": "prompt_cache_key"}
    rename["before"] = "instructions" if responses else "system"
    raw = [(name, Raw, None) for name in ("head", "before", "cache_key", *schemas, *texts)]
    common = [("model", str | None, None), ("stream", Any, False), *raw]
    untyped = [(name, Any, None) for name in (*COUNTS, *SEQUENCES)]
    return Shape(
        strict=_decoder([*common, *_typed(caps, pictures=pictures)], rename),
        lax=_decoder([*common, *untyped], rename),
        pictures=pictures,
        generates=generates,
        batch=endpoint.prompt_field != "messages" and not responses,
        schemas=schemas,
        schemas_of=attrgetter(*schemas),
        no_schemas=(None,) * len(schemas),
        texts=texts,
        answer_of=_answer_of(endpoint),
    )


def _answer_of(endpoint: Endpoint) -> Callable[[Fields], Any]:
    """Engines read over what other endpoints call it: such a word bounds nothing."""
    if endpoint.dialect is Dialect.RESPONSES:
        return attrgetter("max_output_tokens")
    return _longest_chat if endpoint.name == "chat.completions" else attrgetter("max_tokens")


def _longest_chat(found: Fields) -> Any:
    """Of two words for it engines go by one or the other."""
    one, other = found.max_tokens, found.max_completion_tokens
    if one is None or other is None:
        return one if other is None else other
    return max(one, other) if type(one) is int and type(other) is int else None


def _typed(caps: Caps, *, pictures: bool) -> list[tuple[str, Any, Any]]:
    typed: list[tuple[str, Any, Any]] = []
    for name, cap in COUNTS.items():
        most = caps.images if pictures and name == "n" else getattr(caps, cap)
        count = Annotated[int, Meta(le=most)]
        # ``logprobs`` is a number of tokens in completions, a switch in chats.
        typed.append((name, count | bool | None if name == "logprobs" else count | None, None))
    text: Any = Annotated[str, Meta(max_length=caps.stop_characters)]
    texts: Any = Annotated[list[text], Meta(max_length=caps.stop)]
    ids: Any = Annotated[list[int], Meta(max_length=caps.stop)]
    biases: Any = Annotated[dict[str, Any], Meta(max_length=caps.logit_bias)]
    of = {
        "stop": text | texts,
        "stop_sequences": texts,
        "bad_words": texts,
        "stop_token_ids": ids,
        "logit_bias": biases,
    }
    return typed + [(name, of[name] | None, None) for name in SEQUENCES]


def _decoder(shape: list[tuple[str, Any, Any]], rename: dict[str, str]) -> msgspec.json.Decoder[Fields]:
    made = msgspec.defstruct("Fields", shape, rename=rename)
    return cast("msgspec.json.Decoder[Fields]", msgspec.json.Decoder(made))
