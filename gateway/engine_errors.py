"""Turns an engine's error answer into one of ours, without passing on what an engine should not tell.

Engines are not trusted: a refusal (4xx) keeps its first sentence when that is safe to show, a failure (5xx) never does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.endpoints import Endpoint
from gateway.errors import EngineError, EngineFailed, GatewayError, InvalidRequest, Unavailable, UnsupportedEndpoint

LONGEST_MESSAGE = 500
LONGEST_READ = 4000  # characters that are searched: an engine may repeat what a caller made up to be slow to search
LARGEST_BODY_BYTES = 64 * 1024  # of an error answer; the rest is not read

_UNSAFE = re.compile(
    r"traceback \(most|site-packages|file \"|ray::|redis\.|\bat 0x[0-9a-f]+|<class '|\\n|"
    r"(?:^|[\s'\"(=:])(?:~|/(?!v1/)[\w.\-]+)/[\w.\-/]+",  # a path of the engine's machine, but not one of the API
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"maximum context length|max_model_len|context (?:length|window)|longer than the maximum model length", re.I
)
_PYDANTIC = re.compile(r"\d+ validation errors?\b", re.IGNORECASE)
_PYDANTIC_MESSAGE = re.compile(r"'msg': (?P<quote>['\"])(?P<text>.*?)(?P=quote)(?:,|})")
_PARAM = re.compile(r"[A-Za-z_][\w.\[\]\-]{0,99}", re.ASCII)
_PARAM_IN_MESSAGE = re.compile(
    r"^(?:Invalid (?:value for )?)?[`'\"]?(?P<name>(?!it\b|there\b)[a-z](?:[a-z_]*[a-z])?)[`'\"]? "
    r"(?:must|should|is|cannot|has)\b"
)
_VLLM_TAIL = re.compile(r"\s*\(parameter=[^()]*(?:\([^()]*\)[^()]*)*\)\s*$")
_FOR_OPERATORS = re.compile(r"\s*[^.]*\b(?:VLLM_[A-Z_]+|environment variable)\b[^.]*\.?")
_CODE = re.compile(r"[a-z][a-z0-9_]{2,63}", re.ASCII)
_NO_SUCH_PATH = ("", "Not Found", "Method Not Allowed")  # what FastAPI and Starlette say of a path they do not serve


class EngineRefusal(InvalidRequest):
    """A request that the engine itself found wrong; keeps the engine's 4xx status."""

    def __init__(self, status: int, message: str, *, param: str | None, code: str | None) -> None:
        super().__init__(message, param=param)
        self.status, self.code = status, code


class EngineBusy(GatewayError):
    status = 429
    type = "rate_limit_error"
    code = "engine_overloaded"


class EngineNotReady(Unavailable):
    code = "engine_not_ready"


@dataclass(frozen=True, slots=True)
class Told:
    """What an engine said, picked out of whichever shape it used."""

    message: str = ""
    param: str | None = None
    code: str | None = None
    validation: bool = False  # a sentence of pydantic's


def rewrite(status: int, body: bytes, *, endpoint: Endpoint, model: str, request_id: str) -> GatewayError:
    """The error that the caller gets for an engine's answer with ``status`` >= 400.

    1. 501, and a 404 or 405 for the path itself: this model has no such endpoint.
    2. A 4xx that is the caller's to mend: its message, when safe, with ``param`` and ``code``.
    3. 429 and 503: come again.
    4. Anything else: a generic sentence with the request id.
    """
    told = read(body)
    if status == 501 or (status in (404, 405) and _is_about_the_path(told)):  # 1
        path = endpoint.path_for(model)
        return UnsupportedEndpoint(f"The model '{model}' does not support {path}.", param=endpoint.model_field)
    if status == 429:  # 3
        return EngineBusy(f"The model '{model}' has too many requests at the moment; try again.", retry_after_s=1)
    if status == 503:
        return EngineNotReady(f"The model '{model}' cannot take requests at the moment; try again.", retry_after_s=1)
    if 400 <= status < 500 and status not in (401, 403, 407):  # 2
        return _refusal(status, told, endpoint, model)
    kind = EngineFailed if status == 500 else EngineError  # 4
    return kind(
        f"The engine of the model '{model}' failed on this request. Give the request id {request_id} to your operator."
    )


def read(body: bytes) -> Told:
    """Understands OpenAI, Anthropic, FastAPI and older vLLM error documents; anything else is told nothing."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return Told()
    if not isinstance(document, dict):
        return Told()
    inner = document.get("error", document)
    if isinstance(inner, str):
        return Told(message=_sentence(inner))
    if not isinstance(inner, dict):
        return Told()
    message = inner.get("message", inner.get("detail"))
    if isinstance(message, list):
        return _from_fastapi(message)
    raw = message if isinstance(message, str) else ""
    return Told(
        message=_sentence(raw),
        param=_param(inner.get("param")),
        code=_code(inner.get("code")),
        validation=bool(_PYDANTIC.match(raw)),
    )


def _refusal(status: int, told: Told, endpoint: Endpoint, model: str) -> EngineRefusal:
    message = told.message if is_safe(told.message) else f"The model '{model}' rejected the request."
    if _TOO_LONG.search(told.message):
        return EngineRefusal(400, message, param=endpoint.prompt_field, code="context_length_exceeded")
    param = told.param
    if param is None and (named := _PARAM_IN_MESSAGE.match(told.message)):
        param = named["name"]
    if param and told.validation and message == told.message:
        message = f"{param}: {message}"  # pydantic's sentence does not say of what
    return EngineRefusal(status, message, param=param, code=told.code)


def is_safe(message: str) -> bool:
    return bool(message) and not _UNSAFE.search(message)


def _is_about_the_path(told: Told) -> bool:
    return told.message in _NO_SUCH_PATH or "does not support" in told.message


def _sentence(message: str) -> str:
    """The first line that says something. vLLM lists validation errors as Python dicts, the sentence under ``msg``."""
    message = message.lstrip()[:LONGEST_READ]
    if _PYDANTIC.match(message) and (found := _PYDANTIC_MESSAGE.search(message)):
        message = found["text"]
    lines = (line.strip() for line in message.splitlines())
    text = next((line for line in lines if line), "")
    text = _FOR_OPERATORS.sub("", _VLLM_TAIL.sub("", text)).strip()
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


def _from_fastapi(details: list[Any]) -> Told:
    detail = details[0] if details and isinstance(details[0], dict) else {}
    where = detail.get("loc")
    param = ".".join(str(part) for part in where) if isinstance(where, list) else None
    message = detail.get("msg")
    return Told(message=_sentence(message) if isinstance(message, str) else "", param=_param(param), validation=True)


def _param(param: Any) -> str | None:
    if not isinstance(param, str):
        return None
    name = param.removeprefix("body.")
    return name if _PARAM.fullmatch(name) else None


def _code(code: Any) -> str | None:
    # vLLM repeats the HTTP status here; OpenAI's codes are words.
    return code if isinstance(code, str) and _CODE.fullmatch(code) else None
