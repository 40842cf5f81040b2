"""The inference endpoints, one line each. Adding a line is all it takes to serve one more path of an engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.dialects import Dialect


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``name`` labels metrics and logs. ``prompt_field`` is what a caller shortens when the context is exceeded."""

    path: str
    name: str
    capability: str  # what the model must be able to do
    prompt_field: str
    dialect: Dialect = Dialect.OPENAI
    method: str = "POST"
    model_field: str = "model"


_C, _R, _A = Dialect.OPENAI, Dialect.RESPONSES, Dialect.ANTHROPIC
ENDPOINTS = (
    Endpoint("/v1/chat/completions", "chat.completions", "generate", "messages", _C),
    Endpoint("/v1/completions", "completions", "generate", "prompt", _C),
    Endpoint("/v1/responses", "responses", "generate", "input", _R),
    Endpoint("/v1/messages", "messages", "generate", "messages", _A),
    Endpoint("/v1/messages/count_tokens", "messages.count_tokens", "generate", "messages", _A),
    Endpoint("/v1/embeddings", "embeddings", "embed", "input", _C),
    Endpoint("/v1/rerank", "rerank", "score", "documents", _C),
    Endpoint("/v1/score", "score", "score", "text_1", _C),
    Endpoint("/classify", "classify", "classify", "input", _C),
    Endpoint("/pooling", "pooling", "embed", "input", _C),
    Endpoint("/tokenize", "tokenize", "tokenize", "prompt", _C),
    Endpoint("/detokenize", "detokenize", "tokenize", "tokens", _C),
)


def by_path(endpoints: Iterable[Endpoint] = ENDPOINTS) -> dict[str, Endpoint]:
    """Raises ValueError when two lines claim the same path."""
    table: dict[str, Endpoint] = {}
    for endpoint in endpoints:
        if endpoint.path in table:
            raise ValueError(f"two endpoints claim {endpoint.path}: {table[endpoint.path].name} and {endpoint.name}")
        table[endpoint.path] = endpoint
    return table
