"""What the gateway reads of a request body: the fields it routes by, and nothing else."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from gateway.endpoints import Endpoint
from gateway.errors import BodyTooLarge, InvalidRequest, UnsupportedMediaType

LONGEST_MODEL_NAME = 512


class Peek(msgspec.Struct, frozen=True):
    model: str
    stream: bool


class _Stream(msgspec.Struct):
    stream: Any = False


_STREAM = msgspec.json.Decoder(_Stream)


def check_content_type(content_type: str | None, content_encoding: str | None) -> None:
    """Raises UnsupportedMediaType unless the body is said to be plain JSON."""
    media = (content_type or "").partition(";")[0].strip().lower()
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        said = f"'{media[:100]}'" if media else "missing"
        raise UnsupportedMediaType(f"The content-type header is {said}; send 'content-type: application/json'.")
    if content_encoding and content_encoding.strip().lower() != "identity":
        raise UnsupportedMediaType(
            "Compressed request bodies are not accepted; send the JSON without content-encoding."
        )


def check_declared_length(content_length: str | None, limit_bytes: int) -> None:
    """Refuses on the header alone. What is really read is counted as well: the header may be missing."""
    if content_length and content_length.isdecimal() and int(content_length) > limit_bytes:
        raise BodyTooLarge(limit_bytes)


def peek(body: bytes, endpoint: Endpoint) -> Peek:
    """Raises InvalidRequest for malformed JSON and for a missing or wrong model field."""
    field = endpoint.model_field
    try:
        found = _decoder(field).decode(body)
    except msgspec.ValidationError as wrong:
        raise _wrong_shape(wrong, field) from wrong
    except RecursionError as deep:
        raise InvalidRequest("The JSON body is nested too deeply.", code="invalid_json") from deep
    except msgspec.DecodeError as malformed:
        raise InvalidRequest(f"The body is not valid JSON: {malformed}.", code="invalid_json") from malformed
    model = found.model
    if not model or model.isspace():
        raise InvalidRequest(f"The field '{field}' is required: name one of the models of GET /v1/models.", param=field)
    if len(model) > LONGEST_MODEL_NAME:
        raise InvalidRequest(f"The field '{field}' is longer than {LONGEST_MODEL_NAME} characters.", param=field)
    return Peek(model=model, stream=found.stream is True)


def peek_beside(body: bytes, model: str) -> Peek:
    """For a path that names the model: the body is any JSON. Raises InvalidRequest when it is none."""
    if model.isspace() or len(model) > LONGEST_MODEL_NAME:
        raise InvalidRequest("The path does not name one of the models of GET /v1/models.", param="model")
    try:
        msgspec.json.decode(body, type=msgspec.Raw)  # whether it is JSON at all
        return Peek(model, stream=_STREAM.decode(body).stream is True)
    except msgspec.ValidationError:
        return Peek(model, stream=False)  # JSON, but no object
    except RecursionError as deep:
        raise InvalidRequest("The JSON body is nested too deeply.", code="invalid_json") from deep
    except msgspec.DecodeError as malformed:
        raise InvalidRequest(f"The body is not valid JSON: {malformed}.", code="invalid_json") from malformed


def _wrong_shape(wrong: msgspec.ValidationError, field: str) -> InvalidRequest:
    where = str(wrong)
    if f"$.{field}" in where:
        return InvalidRequest(f"The field '{field}' must be a string that names a model.", param=field)
    return InvalidRequest("The body must be a JSON object.", code="invalid_json")


@functools.cache
def _decoder(model_field: str) -> msgspec.json.Decoder[Any]:
    # ``stream`` is left untyped: an odd value is for the engine to judge, with the engine's own message.
    shape = msgspec.defstruct(
        "_Fields", [("model", str | None, None), ("stream", Any, False)], rename={"model": model_field}
    )
    return msgspec.json.Decoder(shape)
