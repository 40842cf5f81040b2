"""The OpenAI embeddings endpoint over a batcher."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.runtimes.protocol import Asgi
from models.runtimes.tasks.fields import choice_of
from models.runtimes.tasks.predict_api import predict_route
from models.runtimes.torch.api import (
    ApiError,
    ServedNames,
    application,
    json_response,
    read_object,
    while_connected,
)
from models.runtimes.torch.batcher import Batcher
from models.runtimes.torch.model import Embedding, EmbeddingModel

MOST_INPUTS = 2048  # OpenAI's own limit


def build(model: EmbeddingModel, batcher: Batcher, served_names: Sequence[str]) -> Asgi:
    """The application of one embedding model."""
    names = ServedNames(served_names)
    api = EmbeddingsApi(model, batcher, names)
    routes = [
        Route("/v1/embeddings", api.embeddings, methods=["POST"]),
        predict_route(batcher, names, api.read_input, _shown),
    ]
    return application(names, routes, max_model_len=model.max_tokens)


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """A checked request body."""

    inputs: Sequence[str | list[int]]
    as_base64: bool

    @classmethod
    def read(cls, fields: Mapping[str, Any], model: EmbeddingModel) -> EmbeddingsRequest:
        """Raises ApiError naming the field. Fields that are not known are of no concern."""
        encoding = choice_of(fields, "encoding_format", ("float", "base64"), "float")
        dimensions = fields.get("dimensions")
        if dimensions is not None and dimensions != model.dimensions:
            raise ApiError(400, f"this model has {model.dimensions} dimensions and no others", "dimensions")
        return cls(_inputs(fields.get("input"), model.vocabulary_size), encoding == "base64")


class EmbeddingsApi:
    def __init__(self, model: EmbeddingModel, batcher: Batcher, names: ServedNames) -> None:
        self._model = model
        self._batcher = batcher
        self._names = names

    async def embeddings(self, request: Request) -> Response:
        fields = await read_object(request)
        name = self._names.check(fields.get("model"))
        asked = EmbeddingsRequest.read(fields, self._model)
        found: list[Embedding] = await while_connected(request, self._batcher.outputs(asked.inputs))
        tokens = sum(embedding.tokens for embedding in found)
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(embedding, asked.as_base64)}
            for index, embedding in enumerate(found)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_response({"object": "list", "data": data, "model": name, "usage": usage})

    def read_input(self, given: Any, at: str) -> str | list[int]:
        """Raises ApiError."""
        if not given or not (isinstance(given, str) or _is_ids(given)):
            raise ApiError(400, f"{at} must be a text or token ids, and not empty", "inputs")
        _check_ids(given, self._model.vocabulary_size, at, "inputs")
        read: str | list[int] = given
        return read


def _inputs(given: Any, vocabulary_size: int) -> Sequence[str | list[int]]:
    """A text, texts, token ids or lists of token ids, always as a list of inputs."""
    if given is None:
        raise ApiError(400, "`input` is missing", "input")
    if isinstance(given, str) or _is_ids(given):
        given = [given]
    if not isinstance(given, list) or not given:
        raise ApiError(400, "`input` must be a text, a list of texts, token ids or lists of token ids", "input")
    if len(given) > MOST_INPUTS:
        raise ApiError(400, f"`input` has {len(given)} items, at most {MOST_INPUTS} are taken", "input")
    for index, item in enumerate(given):
        if not item or not (isinstance(item, str) or _is_ids(item)):
            raise ApiError(400, f"`input[{index}]` must be a text or token ids, and not empty", "input")
        _check_ids(item, vocabulary_size, f"`input[{index}]`", "input")
    return given


def _is_ids(item: Any) -> bool:
    return isinstance(item, list) and bool(item) and all(type(token) is int for token in item)


def _check_ids(item: str | list[int], vocabulary_size: int, at: str, param: str) -> None:
    if not isinstance(item, str) and not all(0 <= token < vocabulary_size for token in item):
        raise ApiError(400, f"{at} has token ids beyond the {vocabulary_size} of the model", param)


def _encoded(embedding: Embedding, as_base64: bool) -> str | list[float]:
    """Base64 of little-endian 32-bit floats, or plain numbers."""
    if as_base64:
        return base64.b64encode(embedding.vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = embedding.vector.tolist()
    return numbers


def _shown(embedding: Embedding) -> list[float]:
    numbers: list[float] = embedding.vector.tolist()
    return numbers
