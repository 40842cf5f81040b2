"""The gateway's part of the configuration: where it listens, its workers, what it takes and when it gives up."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from models.catalog.errors import UnitError, WrongValue
from models.catalog.fields import Bytes, Seconds, Section
from models.catalog.units import parse_seconds

AUTO: Literal["auto"] = "auto"
MOST_WORKERS = 64
DAY_S = 86_400.0
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)


def _workers(value: object) -> object:
    """Raises WrongValue."""
    if value == AUTO or (type(value) is int and 1 <= value <= MOST_WORKERS):
        return value
    raise WrongValue(f"{str(value)[:60]!r} is not a number of workers", f"write auto, or 1 to {MOST_WORKERS}")


def _some_seconds(value: object) -> float:
    """Raises UnitError."""
    seconds = parse_seconds(value)
    if not 0 < seconds < DAY_S:
        raise UnitError(f"{str(value)[:60]} is not above 0 and below a day", "write a duration such as 15s or 2m")
    return seconds


def _host_name(value: str) -> str:
    """Raises WrongValue."""
    if not _HOST_NAME.fullmatch(value):
        raise WrongValue(f"{value[:60]!r} is not a host's name", "write it in lower case, without scheme, port, path")
    return value


Workers = Annotated[
    int | Literal["auto"],
    BeforeValidator(_workers),
    WithJsonSchema({"anyOf": [{"const": AUTO}, {"type": "integer", "minimum": 1, "maximum": MOST_WORKERS}]}),
]
SomeSeconds = Annotated[float, BeforeValidator(_some_seconds), WithJsonSchema({"description": "Above 0, below a day"})]
ManySeconds = Annotated[Seconds, Field(lt=DAY_S)]
SomeBytes = Annotated[Bytes, Field(ge=1)]
Some = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
HostName = Annotated[str, AfterValidator(_host_name)]
PemFile = Annotated[str, Field(min_length=1)]


class TlsSettings(Section):
    """PEM files, relative to this one; read again when they change."""

    cert: PemFile = Field(description="The certificate, followed by those between it and a root")
    key: PemFile = Field(description="Its key, without a password")


class AdminSettings(Section):
    """A port for the admin API alone; the gateway's own port has none of it then."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(strict=True, ge=1, le=65_535)]


class RequestCaps(Section):
    """The most that one request may ask of an engine; what is left out is as usual (``gateway.greed.Caps``)."""

    n: Some | None = None
    images: Some | None = None
    best_of: Some | None = None
    logprobs: Some | None = None
    logit_bias: Some | None = None
    stop: Some | None = None
    stop_characters: Some | None = None
    max_tokens: Some | None = None
    prompts: Some | None = None
    tools: Some | None = None
    schema_depth: Some | None = None
    schema_bytes: Some | None = None

    def given(self) -> dict[str, int]:
        return {name: value for name, value in self if value is not None}


class GatewaySettings(Section):
    """``hold_*``: requests that wait for a place on their model; the limit is per model."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(strict=True, ge=0, le=65_535)] = Field(default=8000, description="0 takes a free one")
    workers: Workers = Field(default=AUTO, description="auto: one where GPUs are simulated, else one per core, up to 8")
    admin: AdminSettings | None = Field(default=None, description="Left out: the admin API is on that port as well")
    tls: TlsSettings | None = Field(default=None, description="Left out: plain HTTP")
    hold_timeout: SomeSeconds = 120.0
    hold_limit: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 1024
    hold_comments: ManySeconds = Field(default=0.0, description="How often a held stream gets a comment line; 0: none")
    max_body: SomeBytes = 8 * 2**20
    max_upload: SomeBytes = Field(default=512 * 2**20, description="Of a file that is uploaded")
    max_head: SomeBytes = Field(default=32 * 2**10, description="Of a request line with its headers")
    max_connections: Annotated[int, Field(strict=True, ge=0)] = Field(
        default=0, description="Of callers, per worker; 0: as many as files may be open"
    )
    request_timeout: SomeSeconds = Field(default=15.0, description="A request must have arrived by then")
    idle_timeout: SomeSeconds = Field(default=75.0, description="A connection without a request is let go then")
    linger: ManySeconds = Field(default=2.0, description="What comes in after a refusal is read for so long")
    drain_timeout: SomeSeconds = Field(default=5.0, description="How long open answers may go on when it is stopped")
    access_log: Literal["all", "errors", "off"] = "all"
    media_hosts: tuple[HostName, ...] = Field(
        default=(), description="Engines may fetch images from there; else they come in the request"
    )
    caps: RequestCaps = RequestCaps()
