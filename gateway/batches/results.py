"""What became of each line, as OpenAI writes it into the output and the error file."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from gateway.asking import Answer, Failure
from gateway.batches.lines import Line


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a journal: ``n`` is the number of the input's line, ``text`` the line of the file."""

    n: int
    ok: bool
    text: msgspec.Raw


EXPIRED = Failure("batch_expired", "This request could not be executed before the completion window expired.")


def of_answer(batch_id: str, line: Line, answer: Answer) -> Result:
    response = {"status_code": answer.status, "request_id": answer.request_id, "body": _json(answer.body)}
    return _result(batch_id, line.number, line.custom_id, response, None, ok=answer.status < 400)


def of_failure(batch_id: str, number: int, custom_id: str, failure: Failure) -> Result:
    error = {"code": failure.code, "message": failure.message}
    return _result(batch_id, number, custom_id, None, error, ok=False)


def _result(batch_id: str, number: int, custom_id: str, response: Any, error: Any, *, ok: bool) -> Result:
    # The same line of the same batch always gets the same id.
    line_id = "batch_req_" + hashlib.sha256(f"{batch_id}/{number}".encode()).hexdigest()[:32]
    document = {"id": line_id, "custom_id": custom_id, "response": response, "error": error}
    return Result(n=number, ok=ok, text=msgspec.Raw(msgspec.json.encode(document)))


def _json(body: bytes) -> Any:
    """As it is, on one line; what is no JSON becomes a string: nothing of an answer is lost."""
    try:
        body.decode()
        return msgspec.Raw(msgspec.json.format(body, indent=-1))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")
