"""Logs: structlog to stderr, JSON unless a person reads along. Prompts and keys never get here."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

from gateway.exchange import OTHER_ENDPOINT, Exchange

LONGEST_PATH = 200

log = structlog.get_logger("gateway.requests")


def configure(*, as_json: bool | None = None, level: str = "info") -> None:
    """Call once per process. Other libraries' records (uvicorn, aiohttp) come out in the same form."""
    if as_json is None:
        as_json = not sys.stderr.isatty()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shared.append(structlog.processors.format_exc_info if as_json else structlog.processors.StackInfoRenderer())
    # Plain: the richer kind shows local variables, and keys and prompts are among them.
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer = structlog.processors.JSONRenderer() if as_json else console
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sys.stderr)
    handler.as_json = as_json
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def writes_json() -> bool:
    """Whether ``configure`` was called, and for machines as readers."""
    return any(isinstance(handler, _Handler) and handler.as_json for handler in logging.getLogger().handlers)


class _Handler(logging.StreamHandler[TextIO]):
    as_json = False


def is_quiet(exchange: Exchange) -> bool:
    """Probes, documents and admin reads, unless they failed."""
    return (
        exchange.endpoint == OTHER_ENDPOINT and exchange.method in ("GET", "HEAD", "OPTIONS") and exchange.status < 500
    )


def log_exchange(exchange: Exchange, duration_s: float) -> None:
    """One line per request, for a person (``gateway.access_log`` for machines). What is quiet only at debug level."""
    facts: dict[str, Any] = {
        "request_id": exchange.request_id,
        "method": exchange.method,
        "path": exchange.path[:LONGEST_PATH],
        "endpoint": exchange.endpoint,
        "model": exchange.model,
        "status": exchange.status,
        "seconds": round(duration_s, 6),
    }
    if exchange.endpoint != OTHER_ENDPOINT:
        facts |= {"stream": exchange.stream, "replica": exchange.replica, "retries": exchange.retries}
    usage = exchange.usage
    optional = {
        "key_id": exchange.key_id or None,
        "tenant": exchange.tenant or None,
        "code": exchange.code,
        "address": exchange.address or None if exchange.status >= 400 else None,
        "first_byte_s": None if exchange.first_byte_s is None else round(exchange.first_byte_s, 6),
        "hold_s": round(exchange.hold_s, 6) if exchange.held else None,
        "prompt_tokens": None if usage is None else usage.prompt,
        "completion_tokens": None if usage is None else usage.completion,
        "client_gone": exchange.client_gone or None,
        "broken": exchange.broken or None,
    }
    facts |= {name: value for name, value in optional.items() if value is not None}
    (log.debug if is_quiet(exchange) else log.info)("request", **facts)
