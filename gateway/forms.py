"""What the gateway reads of a multipart body: the fields it routes by. The body goes on as it came."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.endpoints import Endpoint
from gateway.errors import InvalidRequest, UnsupportedMediaType
from gateway.inquiry import Peek

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

LONGEST_MODEL_NAME = 512
# OpenAI's longest forms have 16 pictures and a dozen fields. A part costs time on the loop that serves everybody.
MOST_PARTS = 128
LONGEST_SHORT_FIELD = 4096  # characters of a field that is read here; longer ones are for the engine to judge
BYTES_PER_TOKEN = 640  # of sound: 16 kHz with 16 bits, of which speech models make 50 tokens a second
_MEDIA = b"multipart/form-data"
_YES = frozenset({"true", "1", "yes", "on", "t", "y"})  # as engines (pydantic) read a form's boolean


@dataclass(slots=True)
class Form:
    """``fields``: those without a file that are short. ``spans``: where in the body the value of each of them is."""

    fields: dict[str, str] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)


def peek_form(body: bytes, endpoint: Endpoint, content_type: str | None) -> Peek:
    """Raises UnsupportedMediaType unless the body is said to be a multipart form, and InvalidRequest when it is none
    or does not name one model."""
    form = read_form(body, content_type, (endpoint.model_field, "stream"))
    model = form.fields.get(endpoint.model_field, "")
    if not model or model.isspace():
        message = f"The form field '{endpoint.model_field}' is required: name one of the models of GET /v1/models."
        raise InvalidRequest(message, param=endpoint.model_field)
    if len(model) > LONGEST_MODEL_NAME:
        message = f"The form field '{endpoint.model_field}' is longer than {LONGEST_MODEL_NAME} characters."
        raise InvalidRequest(message, param=endpoint.model_field)
    stream = form.fields.get("stream", "").strip().lower() in _YES
    return Peek(model=model, stream=stream, tokens=1 + len(body) // BYTES_PER_TOKEN, bounded=False)


def renamed(body: bytes, endpoint: Endpoint, content_type: str | None, name: str) -> bytes:
    """The same form with another name in its model field, for an upstream that calls the model so.

    Raises as ``peek_form``.
    """
    start, end = read_form(body, content_type, (endpoint.model_field,)).spans[endpoint.model_field]
    return b"".join((body[:start], name.encode(), body[end:]))


def read_form(body: bytes, content_type: str | None, wanted: tuple[str, ...]) -> Form:
    """The ``wanted`` fields. Raises UnsupportedMediaType and InvalidRequest."""
    boundary = _boundary(content_type)
    if body.count(b"--" + boundary) > MOST_PARTS:
        raise InvalidRequest(f"The form has more than {MOST_PARTS} parts.", code="invalid_form")
    reader = _Reader(body, wanted)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        parser.write(body)
    except FormParserError as malformed:
        raise InvalidRequest(f"The body is not a valid multipart form: {malformed}.", code="invalid_form") from None
    if not reader.ended:
        message = "The multipart form has no end: its closing boundary line is missing."
        raise InvalidRequest(message, code="invalid_form")
    return reader.form


def _boundary(content_type: str | None) -> bytes:
    media, options = parse_options_header(content_type)
    if media.lower() != _MEDIA:
        said = f"'{media[:100].decode('latin-1')}'" if media else "missing"
        raise UnsupportedMediaType(f"The content-type header is {said}; send 'content-type: multipart/form-data'.")
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise InvalidRequest("The content-type header names no boundary of the form's parts.", code="invalid_form")
    return boundary


class _Reader:
    """Gathers what the parser finds. The whole body is written at once, so all places are places in it."""

    def __init__(self, body: bytes, wanted: tuple[str, ...]) -> None:
        self.form = Form()
        self.ended = False
        self._body = body
        self._wanted = wanted
        self._header = b""
        self._disposition = b""
        self._start = self._end = 0

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._part_begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._at_end,
        }

    def _part_begin(self) -> None:
        self._disposition = b""
        self._start = self._end = 0

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header = data[start:end].lower()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        if self._header != b"content-disposition":
            return
        if self._disposition:
            raise InvalidRequest("A part of the form has two content-disposition headers.", code="invalid_form")
        self._disposition = data[start:end]

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._start, self._end = start, end

    def _part_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = _text(options.get(b"name", b""))
        if name not in self._wanted:
            return
        if b"filename" in options:
            raise InvalidRequest(f"The form field '{name}' must be a text, not a file.", param=name)
        if name in self.form.fields:
            # Which one counts is read differently here and there: the one that is checked must be the one that is used.
            raise InvalidRequest(f"The form field '{name}' is given twice.", param=name, code="invalid_form")
        if self._end - self._start > LONGEST_SHORT_FIELD:
            raise InvalidRequest(f"The form field '{name}' is too long.", param=name)
        self.form.fields[name] = _text(self._body[self._start : self._end])
        self.form.spans[name] = (self._start, self._end)

    def _at_end(self) -> None:
        self.ended = True


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("A field of the form is not UTF-8 text.", code="invalid_form") from None
