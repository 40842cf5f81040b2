"""The OpenAI embeddings endpoint over a batcher, with OpenAI's error objects."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.runtimes.batcher import Batcher
from models.runtimes.torch_model import Embedding, EmbeddingModel

MOST_INPUTS = 2048  # OpenAI's own limit

log = logging.getLogger("roundhouse.engine")


class ApiError(Exception):
    """Becomes OpenAI's error object."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def response(self) -> Response:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return _json({"error": error}, self.status)


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """A checked request body."""

    model: str
    inputs: Sequence[str | list[int]]
    as_base64: bool

    @classmethod
    def read(cls, body: bytes, model: EmbeddingModel) -> EmbeddingsRequest:
        """Raises ApiError naming the field. Fields that are not known are of no concern."""
        try:
            fields = json.loads(body)
        except ValueError as problem:
            raise ApiError(400, f"the body is not JSON: {problem}") from problem
        if not isinstance(fields, dict):
            raise ApiError(400, "the body must be a JSON object")
        name = fields.get("model")
        if not isinstance(name, str):
            raise ApiError(400, "`model` must be a string", "model")
        encoding = fields.get("encoding_format") or "float"
        if encoding not in ("float", "base64"):
            raise ApiError(400, "`encoding_format` must be float or base64", "encoding_format")
        dimensions = fields.get("dimensions")
        if dimensions is not None and dimensions != model.dimensions:
            raise ApiError(400, f"this model has {model.dimensions} dimensions and no others", "dimensions")
        return cls(name, _inputs(fields.get("input"), model.vocabulary_size), encoding == "base64")


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
        if not isinstance(item, str) and not all(0 <= token < vocabulary_size for token in item):
            raise ApiError(400, f"`input[{index}]` has token ids beyond the {vocabulary_size} of the model", "input")
    return given


def _is_ids(item: Any) -> bool:
    return isinstance(item, list) and bool(item) and all(type(token) is int for token in item)


class EmbeddingsApi:
    """Builds the ASGI application of one embedding model."""

    def __init__(self, model: EmbeddingModel, batcher: Batcher, served_names: Sequence[str]) -> None:
        self._model = model
        self._batcher = batcher
        self._served_names = tuple(served_names)
        self._created = int(time.time())

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/v1/models", self.models),
                Route("/v1/embeddings", self.embeddings, methods=["POST"]),
            ],
            exception_handlers={ApiError: _on_api_error, HTTPException: _on_http_error, Exception: _on_defect},
        )

    async def health(self, _request: Request) -> Response:
        return Response()

    async def models(self, _request: Request) -> Response:
        data = [
            {
                "id": name,
                "object": "model",
                "created": self._created,
                "owned_by": "roundhouse",
                "root": self._served_names[0],
                "max_model_len": self._model.max_tokens,
            }
            for name in self._served_names
        ]
        return _json({"object": "list", "data": data})

    async def embeddings(self, request: Request) -> Response:
        asked = EmbeddingsRequest.read(await request.body(), self._model)
        if asked.model not in self._served_names:
            raise ApiError(404, f"The model `{asked.model}` does not exist.", "model", "model_not_found")
        found: list[Embedding] = await self._batcher.outputs(asked.inputs)
        tokens = sum(embedding.tokens for embedding in found)
        data = [
            {"object": "embedding", "index": index, "embedding": _encoded(embedding, asked.as_base64)}
            for index, embedding in enumerate(found)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return _json({"object": "list", "data": data, "model": asked.model, "usage": usage})


def _encoded(embedding: Embedding, as_base64: bool) -> str | list[float]:
    """Base64 of little-endian 32-bit floats, or plain numbers."""
    if as_base64:
        return base64.b64encode(embedding.vector.astype("<f4").tobytes()).decode()
    numbers: list[float] = embedding.vector.tolist()
    return numbers


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


async def _on_api_error(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, ApiError)
    return problem.response()


async def _on_http_error(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    return ApiError(problem.status_code, problem.detail).response()


async def _on_defect(_request: Request, problem: Exception) -> Response:
    log.error("a request failed", exc_info=problem)
    return ApiError(500, "the model failed on this input").response()
