"""JSON answers from msgspec structs, and their shapes in the OpenAPI document: one definition serves both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Query
from fastapi.responses import Response

from gateway.dialects import Dialect
from gateway.endpoints import BodyKind, Endpoint

JSON = "application/json"
FORM = "multipart/form-data"
_REFERENCE = "#/components/schemas/{name}"
_ERROR = {"description": "An error", "content": {JSON: {"schema": {"$ref": _REFERENCE.format(name="ErrorDocument")}}}}
_ERRORS = {"4XX": _ERROR, "5XX": _ERROR}
Version = Annotated[int | None, Query(ge=0, description="Refuse if anything was changed since this version")]


class ErrorInner(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorDocument(msgspec.Struct):
    """Every error of every endpoint; under /v1/messages it carries a ``type`` and a ``request_id`` besides."""

    error: ErrorInner


def answer(document: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status_code=status, media_type=JSON)


def shape(
    document: type[msgspec.Struct], status: int = 200, description: str = "Success"
) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a FastAPI route that gives ``answer(document)``."""
    reference = {"$ref": _REFERENCE.format(name=document.__name__)}
    return {status: {"description": description, "content": {JSON: {"schema": reference}}}}


def publish(app: FastAPI, documents: Iterable[type[msgspec.Struct]], endpoints: Iterable[Endpoint]) -> None:
    """Add to ``app.openapi()`` the shapes of msgspec structs and the inference endpoints, which bypass FastAPI."""
    _, components = msgspec.json.schema_components([*documents, ErrorDocument], ref_template=_REFERENCE)
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {}).update(components)
        security = document["components"].setdefault("securitySchemes", {})
        security["bearer"] = {"type": "http", "scheme": "bearer"}
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)  # such a one is answered as 400
                operation["responses"].update(_ERRORS)
        for endpoint in endpoints:
            document["paths"].setdefault(endpoint.path, {})[endpoint.method.lower()] = _inference(endpoint)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _inference(endpoint: Endpoint) -> dict[str, Any]:
    family = "Anthropic" if endpoint.dialect is Dialect.ANTHROPIC else "OpenAI"
    document: dict[str, Any] = {
        "tags": ["inference"],
        "operationId": endpoint.name.replace(".", "_"),
        "summary": endpoint.name,
        "description": f"As in {family}'s API; the body goes to the model's engine unchanged.",
        "security": [{"bearer": []}],
        "responses": {
            "200": {"description": "The engine's answer", "content": {JSON: {}, "text/event-stream": {}}},
            **_ERRORS,
        },
    }
    if endpoint.upgrades:
        return document | _socket(endpoint, document["responses"])
    media = FORM if endpoint.body is BodyKind.FORM else JSON
    document["requestBody"] = {"required": True, "content": {media: {"schema": _body(endpoint)}}}
    if endpoint.model_in_path:
        document["description"] = "Any JSON for one input, or an object with ``inputs`` and, where wanted, ``stream``."
        document["parameters"] = [_model("path", "model")]
    return document


def _socket(endpoint: Endpoint, responses: dict[str, Any]) -> dict[str, Any]:
    """What differs for a WebSocket."""
    passed = {"101": {"description": "The connection is the engine's from here on, both ways"}}
    return {
        "description": "A WebSocket, as in OpenAI's API; its messages pass to and from the model's engine unchanged.",
        "parameters": [_model("query", endpoint.model_field)],
        "responses": passed | {status: shown for status, shown in responses.items() if status != "200"},
    }


def _model(place: str, name: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": True, "schema": {"type": "string", "minLength": 1}}


def _body(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.model_in_path:
        return {}
    return {
        "type": "object",
        "required": [endpoint.model_field],
        "properties": {endpoint.model_field: {"type": "string", "minLength": 1}, "stream": {"type": "boolean"}},
        "additionalProperties": True,
    }
