"""What the gateway reads of a request body: the fields it routes by, how much is asked for, and nothing else."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import msgspec

from gateway.endpoints import Endpoint
from gateway.errors import InvalidRequest, UnsupportedMediaType
from gateway.greed import Caps, check_prompts, check_schemas, judge, texts
from gateway.gunzip import ENCODINGS
from gateway.image_urls import embedded_bytes, may_have_urls, refuse_urls
from gateway.inquiry import Peek
from gateway.shapes import Fields, Shape, shape_of

LONGEST_MODEL_NAME = 512
PREFIX_BYTES = 1024
BYTES_PER_TOKEN = 4  # of JSON with English in it
USUAL_ANSWER_TOKENS = 256
LARGE_BODY_BYTES = 16 << 10  # from here on it is worth looking for images in it


def check_content_type(content_type: str | None, content_encoding: str | None, body: str = "json") -> None:
    """``body``: of the endpoint; forms are looked at by those who read them. Raises UnsupportedMediaType."""
    if body == "json":
        media = (content_type or "").partition(";")[0].strip().lower()
        if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
            said = f"'{media[:100]}'" if media else "missing"
            raise UnsupportedMediaType(f"The content-type header is {said}; send 'content-type: application/json'.")
    if content_encoding:
        encoding = content_encoding.strip().lower()
        if encoding not in ("", "identity", *ENCODINGS):
            raise UnsupportedMediaType(
                f"Compressed request bodies are taken as gzip or deflate, not as '{encoding[:100]}'."
            )


def peek(body: bytes, endpoint: Endpoint, caps: Caps, hosts: frozenset[str]) -> Peek:
    """``hosts``: from which engines may fetch media.

    Raises InvalidRequest for malformed JSON, for a missing or wrong model field, for what is above ``caps`` and for
    URLs elsewhere.
    """
    shape = _shape(endpoint, caps)
    _check_text_is_utf8(body)
    try:
        found = shape.strict.decode(body)
    except msgspec.ValidationError:
        found = _look_again(body, endpoint, shape, caps)
    except (msgspec.DecodeError, RecursionError) as malformed:
        raise _malformed(malformed) from malformed
    model = found.model
    if not model or model.isspace():
        raise _no_model(endpoint.model_field)
    if len(model) > LONGEST_MODEL_NAME:
        field = endpoint.model_field
        raise InvalidRequest(f"The field '{field}' is longer than {LONGEST_MODEL_NAME} characters.", param=field)
    head = b"" if found.head is None else bytes(found.head)
    _check_parts(found, head, shape, endpoint, caps, hosts)
    asked = _prompt_tokens(head, len(body))
    prefix = _prefix(found, head, shape)
    if not shape.generates:
        again_bytes = _again_bytes(found, head, shape) if endpoint.capability == "score" else 0
        return Peek(model, found.stream is True, asked, prefix, again_bytes=again_bytes)
    answer = shape.answer_of(found)
    bounded = type(answer) is int and answer > 0
    choices = 1 if found.n is None else _times(found.n)
    prompts = texts(head) if shape.batch else 1
    likely = (answer if bounded else USUAL_ANSWER_TOKENS) * choices * prompts
    return Peek(model, found.stream is True, asked + likely, prefix, likely, bounded, choices, prompts)


def peek_beside(body: bytes, model: str, caps: Caps) -> Peek:
    """For a path that names the model: the body is any JSON, in a shape that only the model knows.

    Whatever ``caps`` name may mean something else there: they bound nothing. Raises InvalidRequest when it is no JSON.
    """
    if model.isspace() or len(model) > LONGEST_MODEL_NAME:
        raise InvalidRequest("The path does not name one of the models of GET /v1/models.", param="model")
    tokens = max(1, len(body) // BYTES_PER_TOKEN)
    _check_text_is_utf8(body)
    try:
        msgspec.json.decode(body, type=msgspec.Raw)  # whether it is JSON at all
        return Peek(model, _STREAM.decode(body).stream is True, tokens)
    except msgspec.ValidationError:
        return Peek(model, False, tokens)  # JSON, but no object
    except (msgspec.DecodeError, RecursionError) as malformed:
        raise _malformed(malformed) from malformed


def _check_text_is_utf8(body: bytes) -> None:
    """The decoder does not look into texts that it passes over; others after us will."""
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as odd:
        message = f"The body is not valid JSON: it is not UTF-8 at byte {odd.start}."
        raise InvalidRequest(message, code="invalid_json") from odd


class _Stream(msgspec.Struct):
    stream: Any = False


_STREAM = msgspec.json.Decoder(_Stream)
_SHAPES: dict[tuple[str, int], tuple[Caps, Shape]] = {}  # made when first asked for; a worker has one set of caps


def _shape(endpoint: Endpoint, caps: Caps) -> Shape:
    key = endpoint.path, id(caps)  # not the caps themselves: to hash them takes longer than to decode a body
    kept = _SHAPES.get(key)
    if kept is None or kept[0] is not caps:
        kept = _SHAPES[key] = caps, shape_of(endpoint, caps)
    return kept[1]


def _look_again(body: bytes, endpoint: Endpoint, shape: Shape, caps: Caps) -> Fields:
    """Something in it is not as usual: of the wrong type, or above its cap."""
    try:
        found = shape.lax.decode(body)
    except msgspec.ValidationError as wrong:
        field = endpoint.model_field
        if f"$.{field}" in str(wrong):
            raise InvalidRequest(f"The field '{field}' must be a string that names a model.", param=field) from wrong
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json") from wrong
    except (msgspec.DecodeError, RecursionError) as malformed:
        raise _malformed(malformed) from malformed
    judge(found, caps, pictures=shape.pictures)
    return found


def _check_parts(
    found: Fields, head: bytes, shape: Shape, endpoint: Endpoint, caps: Caps, hosts: frozenset[str]
) -> None:
    """What is judged by its bytes. Raises InvalidRequest."""
    schemas = shape.schemas_of(found)
    if schemas != shape.no_schemas:
        check_schemas([(n, bytes(raw)) for n, raw in zip(shape.schemas, schemas, strict=True) if raw is not None], caps)
    _check_text(found, endpoint.prompt_field, head, shape, caps, hosts)
    for name in shape.texts:
        raw = getattr(found, name)
        if raw is not None:
            _check_text(found, name, bytes(raw), shape, caps, hosts)


def _check_text(found: Fields, name: str, raw: bytes, shape: Shape, caps: Caps, hosts: frozenset[str]) -> None:
    conversation = name == "messages"
    if shape.batch and not conversation:
        check_prompts(name, raw, caps, max(_times(found.n), _times(found.best_of)))
    # Inside a conversation they are in a list, elsewhere at least in an object.
    if (raw.find(b"[", 1) >= 0 if conversation else raw.find(b"{") >= 0) and may_have_urls(raw):
        refuse_urls(raw, hosts, name)


def _prompt_tokens(head: bytes, body_bytes: int) -> int:
    """An estimate: the body in tokens, without what is embedded in it."""
    if body_bytes > LARGE_BODY_BYTES:
        body_bytes -= embedded_bytes(head)
    return body_bytes // BYTES_PER_TOKEN or 1


def _again_bytes(found: Fields, head: bytes, shape: Shape) -> int:
    """Of a text that is compared to several: it is read with each of them."""
    sides = [head, *(bytes(raw) for name in shape.texts if (raw := getattr(found, name)) is not None)]
    counts = [texts(raw) for raw in sides]
    return (max(counts) - 1) * sum(len(raw) for raw, count in zip(sides, counts, strict=True) if count == 1)


def _times(n: Any) -> int:
    return n if isinstance(n, int) and n > 1 else 1


def _prefix(found: Fields, head: bytes, shape: Shape) -> int:
    """Of what requests with the same beginning have in common, as far as an engine's cache can use it.

    1. The caller's own word for it. 2. The conversation before its first answer, so that all its turns are alike;
    after 1 KiB they are alike anyhow. 3. The prompt's first 1 KiB.
    """
    if found.cache_key is not None:  # 1
        return crc32(found.cache_key) or 1
    if not shape.generates:
        return 0
    hashed, room = 0, PREFIX_BYTES
    if found.before is not None:
        before = bytes(found.before)[:PREFIX_BYTES]
        hashed, room = crc32(before), PREFIX_BYTES - len(before)
    start = head[:room]
    if start[:1] == b"[":  # 2
        answer = start.find(b'"assistant"')
        if answer >= 0:
            start = start[: start.rfind(b"}", 0, answer)]
        elif len(start) == len(head):
            start = start[: start.rfind(b"}")]
    return crc32(start, hashed)  # 3


def _malformed(error: msgspec.DecodeError | RecursionError) -> InvalidRequest:
    if isinstance(error, RecursionError):
        return InvalidRequest("The JSON body is nested too deeply.", code="invalid_json")
    return InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json")


def _no_model(field: str) -> InvalidRequest:
    return InvalidRequest(f"The field '{field}' is required: name one of the models of GET /v1/models.", param=field)
