"""The lines of a batch's input file: ``{"custom_id", "method", "url", "body"}`` each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.batches.records import LineError

MOST_LINES = 50_000
MOST_ERRORS = 100  # that are told
LONGEST_ID = 512


@dataclass(frozen=True, slots=True)
class Line:
    """``number``: from 1, blank lines counted too, so that it is the one an editor shows."""

    number: int
    custom_id: str
    model: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Checked:
    """``model``: the one that all lines name, None when they name several."""

    total: int
    errors: tuple[LineError, ...]
    model: str | None


class _Raw(msgspec.Struct):
    custom_id: str | None = None
    method: str | None = None
    url: str | None = None
    body: msgspec.Raw = msgspec.Raw(b"")


class _Body(msgspec.Struct):
    model: Any = None
    stream: Any = False
    background: Any = False


class BadLine(Exception):
    def __init__(self, error: LineError) -> None:
        super().__init__(error.message)
        self.error = error


_LINES = msgspec.json.Decoder(_Raw)
_BODIES = msgspec.json.Decoder(_Body)


def parse(number: int, raw: bytes, endpoint: str, most_bytes: int) -> Line:
    """Raises BadLine."""

    def bad(code: str, message: str, param: str | None = None) -> BadLine:
        return BadLine(LineError(code=code, message=message, param=param, line=number))

    if len(raw.rstrip()) > most_bytes:
        raise bad("line_too_large", f"The line is larger than the {most_bytes} bytes that a request may have.")
    try:
        given = _LINES.decode(raw)
        body = _BODIES.decode(given.body) if given.body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as malformed:
        raise bad("invalid_json_line", f"The line is not such a JSON object: {malformed}.") from malformed
    if not given.custom_id or len(given.custom_id) > LONGEST_ID:
        raise bad("missing_required_parameter", f"custom_id must have 1 to {LONGEST_ID} characters.", "custom_id")
    if given.method != "POST":
        raise bad("invalid_method", "The method must be 'POST'.", "method")
    if given.url != endpoint:
        raise bad("mismatched_endpoint", f"The url must be the batch's endpoint, {endpoint}.", "url")
    if body is None or not isinstance(body.model, str) or not body.model:
        raise bad("missing_required_parameter", "The body must be an object that names a model.", "body.model")
    if body.stream or body.background:
        param = "body.stream" if body.stream else "body.background"
        raise bad("invalid_request", "The answer goes into a file: neither 'stream' nor 'background' fits here.", param)
    return Line(number, given.custom_id, body.model, bytes(given.body))


def read(path: Path, endpoint: str, most_bytes: int, behind: int = 0) -> Iterator[Line | LineError]:
    """Line by line, blank ones left out, those up to number ``behind`` too. Raises OSError."""
    with path.open("rb") as file:
        for number, raw in enumerate(_bounded(file, most_bytes), 1):
            if number <= behind or not raw.strip():
                continue
            try:
                yield parse(number, raw, endpoint, most_bytes)
            except BadLine as bad:
                yield bad.error


def check(path: Path, endpoint: str, most_bytes: int, most_lines: int = MOST_LINES) -> Checked:
    """Reads all of it; blocks. Raises OSError."""
    errors: list[LineError] = []
    models: set[str] = set()
    seen: set[str] = set()
    total = 0
    for line in read(path, endpoint, most_bytes):
        total += 1
        if total > most_lines:
            errors.append(LineError(code="too_many_lines", message=f"A batch has at most {most_lines} requests."))
            break
        if isinstance(line, LineError):
            errors.append(line)
        elif line.custom_id in seen:
            message = "An earlier line has the same custom_id."
            errors.append(LineError(code="duplicate_custom_id", message=message, param="custom_id", line=line.number))
        else:
            seen.add(line.custom_id)
            models.add(line.model)
        if len(errors) >= MOST_ERRORS:
            break
    if total == 0:
        errors.append(LineError(code="empty_file", message="The input file has no requests in it."))
    return Checked(total, tuple(errors), models.pop() if len(models) == 1 else None)


def _bounded(file: Any, most_bytes: int) -> Iterator[bytes]:
    """Lines, of which one that is too long is cut: nobody's line fills our memory."""
    while raw := file.readline(most_bytes + 2):
        line = raw
        while raw and not raw.endswith(b"\n"):  # the rest of a line that is too long, or the end of the file
            raw = file.readline(1 << 16)
        yield line
