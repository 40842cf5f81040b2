"""The inference endpoints, one line each. Adding a line is all it takes to serve one more path of an engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gateway.dialects import Dialect

MODEL_IN_PATH = "{model}"
_PROMPT_BYTES = 1 << 20  # of a body that holds one text and a few settings


class BodyKind(StrEnum):
    """How a request says what it wants, and so where its model's name is."""

    JSON = "json"
    FORM = "form"  # multipart/form-data, because of the files in it
    NONE = "none"  # a WebSocket: the name is in the query


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``name`` labels metrics and logs. ``prompt_field`` is what a caller shortens when the context is exceeded.

    A path that ends in MODEL_IN_PATH names the model itself; the body is then any JSON. ``stored``: a caller may ask
    that the answer be kept, and come back for it. ``uses_tokens``: rather than only counting them.
    """

    path: str
    name: str
    capability: str  # what the model must be able to do
    prompt_field: str
    dialect: Dialect = Dialect.OPENAI
    method: str = "POST"
    model_field: str = "model"
    engine_path: str | None = None  # under which engines have it, where that differs
    most_body_bytes: int | None = None  # where less is enough than what the server takes in general
    body: BodyKind = BodyKind.JSON
    stored: bool = False
    uses_tokens: bool = True

    @property
    def model_in_path(self) -> bool:
        return self.path.endswith(MODEL_IN_PATH)

    @property
    def upgrades(self) -> bool:
        """Whether it is a WebSocket, which has no request body and no answer, but bytes both ways."""
        return self.body is BodyKind.NONE

    def path_for(self, model: str) -> str:
        """As a caller of this model writes it."""
        return self.path.replace(MODEL_IN_PATH, model)

    def engine_path_for(self, model: str) -> str:
        return (self.engine_path or self.path).replace(MODEL_IN_PATH, model)


_C, _R, _A = Dialect.OPENAI, Dialect.RESPONSES, Dialect.ANTHROPIC
_FORM, _NONE = BodyKind.FORM, BodyKind.NONE
ENDPOINTS = (
    Endpoint("/v1/chat/completions", "chat.completions", "generate", "messages", _C),
    Endpoint("/v1/completions", "completions", "generate", "prompt", _C),
    Endpoint("/v1/responses", "responses", "generate", "input", _R, stored=True),
    Endpoint("/v1/messages", "messages", "generate", "messages", _A),
    Endpoint("/v1/messages/count_tokens", "messages.count_tokens", "generate", "messages", _A, uses_tokens=False),
    Endpoint("/v1/embeddings", "embeddings", "embed", "input", _C),
    Endpoint("/v1/rerank", "rerank", "score", "documents", _C),
    Endpoint("/v2/rerank", "rerank.v2", "score", "documents", _C),
    Endpoint("/v1/score", "score", "score", "text_1", _C),
    Endpoint("/classify", "classify", "classify", "input", _C),
    Endpoint("/v1/classify", "classify.v1", "classify", "input", _C, engine_path="/classify"),
    Endpoint("/v1/images/generations", "images.generations", "image", "prompt", _C, most_body_bytes=_PROMPT_BYTES),
    Endpoint("/v1/images/edits", "images.edits", "image_edit", "prompt", _C, body=_FORM),
    Endpoint("/v1/images/variations", "images.variations", "image_edit", "image", _C, body=_FORM),
    Endpoint("/v1/audio/speech", "audio.speech", "speech", "input", _C, most_body_bytes=_PROMPT_BYTES),
    Endpoint("/v1/audio/transcriptions", "audio.transcriptions", "transcribe", "file", _C, body=_FORM),
    Endpoint("/v1/audio/translations", "audio.translations", "transcribe", "file", _C, body=_FORM),
    Endpoint("/v1/realtime", "realtime", "realtime", "session", _C, "GET", body=_NONE),
    Endpoint("/v1/predict/{model}", "predict", "predict", "inputs", _C),
    Endpoint("/pooling", "pooling", "embed", "input", _C),
    Endpoint("/tokenize", "tokenize", "tokenize", "prompt", _C, uses_tokens=False),
    Endpoint("/detokenize", "detokenize", "tokenize", "tokens", _C, uses_tokens=False),
    Endpoint("/v1/tokenize", "tokenize.v1", "tokenize", "prompt", _C, engine_path="/tokenize", uses_tokens=False),
    Endpoint("/v1/detokenize", "detokenize.v1", "tokenize", "tokens", _C, engine_path="/detokenize", uses_tokens=False),
)


def by_path(endpoints: Iterable[Endpoint] = ENDPOINTS) -> dict[str, Endpoint]:
    """Raises ValueError when two lines claim the same path."""
    table: dict[str, Endpoint] = {}
    for endpoint in endpoints:
        if endpoint.path in table:
            raise ValueError(f"two endpoints claim {endpoint.path}: {table[endpoint.path].name} and {endpoint.name}")
        table[endpoint.path] = endpoint
    return table


class Paths:
    """Finds the endpoint of a request's path, and the model where the path names it."""

    def __init__(self, table: Mapping[str, Endpoint]) -> None:
        self._exact = {path: endpoint for path, endpoint in table.items() if not endpoint.model_in_path}
        self._naming = {
            path.removesuffix(MODEL_IN_PATH): endpoint for path, endpoint in table.items() if endpoint.model_in_path
        }

    def find(self, path: str) -> tuple[Endpoint, str | None] | None:
        """None where no endpoint is. A model's name may have slashes in it."""
        if (endpoint := self._exact.get(path)) is not None:
            return endpoint, None
        for prefix, endpoint in self._naming.items():
            if path.startswith(prefix) and len(path) > len(prefix):
                return endpoint, path.removeprefix(prefix)
        return None
