"""Errors of the FastAPI part, in the same form as everywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from gateway.dialects import dialect_of, error_body
from gateway.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound, Unexpected
from gateway.exchange import Exchange


def install(app: FastAPI) -> None:
    app.add_exception_handler(GatewayError, _on_gateway_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_unexpected)


def exchange_of(request: Request) -> Exchange:
    exchange: Exchange = request.scope["state"]["exchange"]
    return exchange


async def _on_gateway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return _answer(request, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette raises these itself, for a path or a method that nobody serves."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        return _answer(request, NotFound(f"There is nothing at {path[:200]}. GET /openapi.json lists what there is."))
    if error.status_code == 405:
        allowed = _methods_of(request)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": ", ".join(sorted(allowed))})
        return _answer(request, MethodNotAllowed(exchange_of(request).method, path, allowed))
    if error.status_code < 500:
        return _answer(request, InvalidRequest(str(error.detail)))
    return _answer(request, Unexpected(exchange_of(request).request_id))


async def _on_invalid(request: Request, error: Exception) -> Response:
    """FastAPI's 422 becomes 400, naming the first field that is wrong."""
    assert isinstance(error, RequestValidationError)
    return _answer(request, invalid_request(error.errors()[0]))


async def _on_unexpected(request: Request, error: Exception) -> Response:
    return _answer(request, Unexpected(exchange_of(request).request_id))


def invalid_request(detail: Mapping[str, Any]) -> InvalidRequest:
    """From one of pydantic's error details, whose ``loc`` starts with where it looked: body, query, path, header."""
    if detail.get("type") == "json_invalid":
        return InvalidRequest("The body is not valid JSON.", code="invalid_json")
    place = detail.get("loc", ())
    param = ".".join(str(part) for part in place[1:]) or (str(place[0]) if place else None)
    return InvalidRequest(f"{param}: {detail.get('msg', 'invalid')}.", param=param)


def _answer(request: Request, error: GatewayError) -> Response:
    exchange = exchange_of(request)
    exchange.code = error.code
    body = error_body(error, dialect_of(request.url.path), exchange.request_id)
    return Response(body, status_code=error.status, headers=dict(error.headers()), media_type="application/json")


def _methods_of(request: Request) -> set[str]:
    methods = {"OPTIONS"}
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return methods | {"HEAD"} if "GET" in methods else methods
