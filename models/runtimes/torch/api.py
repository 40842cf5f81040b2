"""What every endpoint of the torch runtime shares: OpenAI's error objects, model lists, and clients that leave."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from models.runtimes.torch.contained import ModelDefect
from models.runtimes.torch.model import BadInput

CLIENT_GONE = 499  # nobody reads it; the log and the metrics do

log = logging.getLogger("roundhouse.engine")

Answer = TypeVar("Answer")


class ApiError(Exception):
    """Becomes OpenAI's error object. ``retry_after_s``: when it is worth trying again."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        response = json_response(self.body(), self.status)
        if self.retry_after_s is not None:
            response.headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        return response


def as_api_error(problem: BaseException) -> ApiError:
    """What a caller may know of ``problem``; a defect goes to the log."""
    if isinstance(problem, ApiError):
        return problem
    if isinstance(problem, BadInput):
        return ApiError(400, str(problem))
    if isinstance(problem, ModelDefect):
        log.error("%s", problem)
        return ApiError(500, str(problem))
    log.error("a request failed", exc_info=problem)
    return ApiError(500, "the model failed on this input")


def json_response(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


async def read_object(request: Request) -> dict[str, Any]:
    """The request's body, a JSON object. Raises ApiError."""
    try:
        fields = json.loads(await request.body())
    except ValueError as problem:
        raise ApiError(400, f"the body is not JSON: {problem}") from problem
    if not isinstance(fields, dict):
        raise ApiError(400, "the body must be a JSON object")
    return fields


async def while_connected(request: Request, answer: Awaitable[Answer]) -> Answer:
    """``answer``, which is cancelled when the client leaves first (then ApiError). Read the body before."""
    task = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((task, leaving), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ApiError(CLIENT_GONE, "the client has left")
    finally:
        task.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class ServedNames:
    """The names that a model is asked by; the first is its own."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._created = int(time.time())

    def check(self, name: object) -> str:
        """Raises ApiError when it is no name, or another model's."""
        if not isinstance(name, str):
            raise ApiError(400, "`model` must be a string", "model")
        if name not in self._names:
            raise ApiError(404, f"The model `{name}` does not exist.", "model", "model_not_found")
        return name

    def listed(self, **more: Any) -> Response:
        """The body of /v1/models; ``more`` goes into each entry, for example ``max_model_len``."""
        data = [
            {
                "id": name,
                "object": "model",
                "created": self._created,
                "owned_by": "roundhouse",
                "root": self._names[0],
                **more,
            }
            for name in self._names
        ]
        return json_response({"object": "list", "data": data})


def application(names: ServedNames, routes: Sequence[BaseRoute], **listed: Any) -> Starlette:
    """/health, /v1/models and ``routes``, with every error as OpenAI's object."""

    async def health(_request: Request) -> Response:
        return Response()

    async def models(_request: Request) -> Response:
        return names.listed(**listed)

    return Starlette(
        routes=[Route("/health", health), Route("/v1/models", models), *routes],
        exception_handlers={
            ApiError: _on_problem,
            BadInput: _on_problem,
            HTTPException: _on_http_error,
            Exception: _on_problem,
        },
    )


async def _on_problem(_request: Request, problem: Exception) -> Response:
    return as_api_error(problem).response()


async def _on_http_error(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    return ApiError(problem.status_code, problem.detail).response()
