"""Reading ``multipart/form-data`` with one file in it, piece by piece: nothing but the piece at hand is in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.errors import BodyTooLarge, GatewayError, InvalidRequest, UnsupportedMediaType

MOST_PARTS = 16
LONGEST_VALUE_BYTES = 1024
FRAMING_BYTES = 64 << 10  # of the form around the file
HOWEVER = "Send multipart/form-data with the fields 'purpose' and 'file'."

Write = Callable[[bytes], Awaitable[None]]


class FileForm:
    """``fields``: the values that are no file. ``filename``: None until there was a file."""

    def __init__(self, content_type: str | None, most_bytes: int) -> None:
        """``most_bytes``: of the file. Raises UnsupportedMediaType."""
        media, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if media != b"multipart/form-data" or not boundary:
            raise UnsupportedMediaType(f"The content-type header names no form with a boundary. {HOWEVER}")
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self.size_bytes = 0
        self._most_bytes = most_bytes
        self._parts = 0
        self._complete = False
        self._refusal: GatewayError | None = None
        self._out: list[bytes] = []  # of the file, not written yet
        self._header, self._content, self._value = bytearray(), bytearray(), bytearray()
        self._disposition = b""
        self._field: str | None = None  # whose part is being read, None: not known yet
        self._in_file = False
        callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._content.extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError as wrong:
            raise UnsupportedMediaType("The boundary in the content-type header is too long.") from wrong

    async def read(self, body: AsyncIterator[bytes], write: Write) -> None:
        """``write`` gets the file in pieces. Raises InvalidRequest, BodyTooLarge, and what ``write`` raises."""
        seen = 0
        async for data in body:
            seen += len(data)
            if seen > self._most_bytes + FRAMING_BYTES:
                raise BodyTooLarge(self._most_bytes)
            try:
                self._parser.write(data)
            except FormParserError as wrong:
                raise InvalidRequest(f"The form is malformed: {wrong}. {HOWEVER}", code="invalid_form") from wrong
            if self._refusal is not None:
                raise self._refusal
            for piece in self._out:
                await write(piece)
            self._out.clear()
        if not self._complete:
            raise InvalidRequest(f"The form ends before its last boundary. {HOWEVER}", code="invalid_form")

    # The parser calls these; they do not raise, because it would be in the middle of something.

    def _begin(self) -> None:
        self._parts += 1
        self._disposition, self._field, self._in_file = b"", None, False
        self._value.clear()
        if self._parts > MOST_PARTS:
            self._refuse(InvalidRequest(f"The form has more than {MOST_PARTS} parts. {HOWEVER}", code="invalid_form"))

    def _header_end(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._content)
        self._header.clear()
        self._content.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        self._in_file = self._field == "file"
        if not self._in_file:
            return
        if self.filename is not None:
            self._refuse(InvalidRequest("The form has more than one file.", param="file"))
        self.filename = options.get(b"filename", b"file").decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        piece = data[start:end]
        if self._in_file:
            self.size_bytes += len(piece)
            if self.size_bytes > self._most_bytes:
                self._refuse(BodyTooLarge(self._most_bytes))
            elif self._refusal is None:
                self._out.append(piece)
            return
        self._value += piece
        if len(self._value) > LONGEST_VALUE_BYTES:
            param = (self._field or "")[:100]
            self._refuse(
                InvalidRequest(f"The field '{param}' is longer than {LONGEST_VALUE_BYTES} bytes.", param=param)
            )
            self._value.clear()

    def _end(self) -> None:
        if not self._in_file and self._field:
            self.fields[self._field] = self._value.decode("utf-8", "replace")

    def _finish(self) -> None:
        self._complete = True

    def _refuse(self, error: GatewayError) -> None:
        self._refusal = self._refusal or error
