"""What may be written in routes.yaml."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from gateway.endpoints import ENDPOINTS
from gateway.greed import Caps
from gateway.settings import Limits
from gateway.standalone.fields import (
    Endpoint,
    EnvName,
    Headers,
    Label,
    Name,
    Price,
    Section,
    Some,
    Weight,
)
from models.catalog.errors import WrongValue
from models.catalog.fields import Bytes, Seconds
from models.catalog.problems import did_you_mean

PriceUnit = Literal["input_token", "output_token", "gpu_second", "request"]
_USUAL = Limits()
_CAPS = tuple(each.name for each in dataclasses.fields(Caps))
_Most = Annotated[int, Field(strict=True, ge=1, le=1 << 40)]
_Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]


class UpstreamSettings(Section):
    """``slots``: requests that it works on at once, over all workers; 0: nothing is held back for want of one."""

    url: Endpoint = Field(description="unix:/path, or http(s)://host:port/base of an OpenAI-compatible server")
    weight: Weight = Field(default=1.0, description="Its share beside the others; 0: only finishes what it has")
    slots: _Count = 0
    model: Label | None = Field(default=None, description="The model's name there, where it differs")
    api_key_env: EnvName | None = Field(default=None, description="The variable that holds the key for this upstream")
    headers: Headers = Field(default={}, description="Sent along with each request")

    @model_validator(mode="after")
    def _one_authorization(self) -> UpstreamSettings:
        if self.api_key_env is not None and "authorization" in self.headers:
            raise WrongValue("has both api_key_env and a header authorization", "keep one of them")
        return self


class ModelSettings(Section):
    model_id: Name
    aliases: tuple[Name, ...] = ()
    adapters: tuple[Name, ...] = Field(default=(), description="LoRA adapters there, each called by its own name")
    capabilities: tuple[str, ...] = Field(default=(), description="What it can do; left out: its upstreams say")
    context_length: Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)] | None = None
    price: dict[PriceUnit, Price] = Field(default={}, description="For each of a unit, as exact decimals")
    owned_by: Label = "roundhouse"
    upstreams: Annotated[tuple[UpstreamSettings, ...], Some]

    @field_validator("capabilities")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = {endpoint.capability for endpoint in ENDPOINTS}
        for index, each in enumerate(value):
            if each not in known:
                raise WrongValue(f"{each[:60]!r} is not a capability", did_you_mean(each, known), at=f"[{index}]")
        return value

    @field_validator("upstreams")
    @classmethod
    def _distinct(cls, value: tuple[UpstreamSettings, ...]) -> tuple[UpstreamSettings, ...]:
        seen: dict[tuple[str, str | None], int] = {}
        for index, each in enumerate(value):
            first = seen.setdefault((each.url, each.model), index)
            if first != index:
                said = f"{each.url} is named twice, first as upstreams[{first}]"
                raise WrongValue(said, "keep one and raise its weight", at=f"[{index}]")
        if not any(each.weight for each in value):
            raise WrongValue("every upstream has the weight 0: nothing could be sent", "give one of them a weight")
        return value


class LimitSettings(Section):
    """``gateway.settings.Limits`` as it is written. In force from the start of the gateway, not by a reload."""

    max_body: Bytes = _USUAL.max_body_bytes
    upload: Bytes = _USUAL.upload_bytes
    head: Bytes = _USUAL.head_bytes
    request_timeout: Seconds = _USUAL.request_timeout_s
    idle_timeout: Seconds = _USUAL.idle_timeout_s
    linger: Seconds = _USUAL.linger_s
    drain_timeout: Seconds = _USUAL.drain_timeout_s
    max_connections: _Count = _USUAL.max_connections
    hold_timeout: Seconds = _USUAL.hold_timeout_s
    hold_limit: _Count = _USUAL.hold_limit
    hold_comments: Seconds = _USUAL.hold_comments_s
    media_hosts: tuple[Label, ...] = _USUAL.media_hosts
    caps: dict[str, _Most] = Field(default={}, description="The most that a request may ask for, by name")

    @field_validator("caps")
    @classmethod
    def _known(cls, value: dict[str, int]) -> dict[str, int]:
        for name in value:
            if name not in _CAPS:
                raise WrongValue(f"{name[:60]!r} is not capped", did_you_mean(name, _CAPS), at=name)
        return value

    def limits(self) -> Limits:
        return Limits(
            max_body_bytes=self.max_body,
            upload_bytes=self.upload,
            head_bytes=self.head,
            request_timeout_s=self.request_timeout,
            idle_timeout_s=self.idle_timeout,
            linger_s=self.linger,
            drain_timeout_s=self.drain_timeout,
            max_connections=self.max_connections,
            hold_timeout_s=self.hold_timeout,
            hold_limit=self.hold_limit,
            hold_comments_s=self.hold_comments,
            media_hosts=self.media_hosts,
        )


class RoutesFile(Section):
    models: Annotated[tuple[ModelSettings, ...], Some]
    limits: LimitSettings = LimitSettings()

    @field_validator("models")
    @classmethod
    def _names_are_unique(cls, value: tuple[ModelSettings, ...]) -> tuple[ModelSettings, ...]:
        """Ids, aliases and adapters share one name space: a request names only one of them."""
        taken: dict[str, str] = {}
        for index, model in enumerate(value):
            for name, at in _names(model):
                here = f"[{index}].{at}"
                first = taken.setdefault(name, f"models{here}")
                if first != f"models{here}":
                    raise WrongValue(f"{name!r} is taken by {first}", "choose another name", at=here)
        return value

    @model_validator(mode="after")
    def _headers_belong_to_a_url(self) -> RoutesFile:
        """Connections are pooled by URL, and what is said on them is too."""
        said: dict[str, tuple[str, UpstreamSettings]] = {}
        for index, model in enumerate(self.models):
            for number, each in enumerate(model.upstreams):
                here = f"models[{index}].upstreams[{number}]"
                where, first = said.setdefault(each.url, (here, each))
                if (first.api_key_env, first.headers) != (each.api_key_env, each.headers):
                    cure = "give both the same, or name the upstream by another URL"
                    raise WrongValue(f"{each.url} has other headers or another key than in {where}", cure, at=here)
        return self


def _names(model: ModelSettings) -> list[tuple[str, str]]:
    """Each name of it, and where it is written."""
    aliases = [(name, f"aliases[{index}]") for index, name in enumerate(model.aliases)]
    adapters = [(name, f"adapters[{index}]") for index, name in enumerate(model.adapters)]
    return [(model.model_id, "model_id"), *aliases, *adapters]
