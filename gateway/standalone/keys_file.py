"""What may be written in keys.yaml: who may call, by the hash of the key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from gateway.standalone.fields import KeyHash, Label, Section, Some
from models.catalog.errors import WrongValue

Scope = Literal["inference", "admin", "admin:read", "admin:write"]


class KeySettings(Section):
    """``priority``: the highest that it may ask for; higher goes first."""

    name: Label
    hash: KeyHash = Field(description="SHA-256 of the key's text, as `roundhouse keys hash` prints it")
    id: Label | None = Field(default=None, description="In logs; left out: made of the hash")
    scopes: Annotated[tuple[Scope, ...], Some] = ("inference",)
    weight: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = Field(
        default=1.0, description="Its share beside other keys while requests wait"
    )
    priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = 0
    models: tuple[Label, ...] = Field(default=(), description="Patterns of those that it may call; none: all")
    endpoints: tuple[Label, ...] = Field(default=(), description="Patterns of names or paths; none: all")
    expires: datetime | None = Field(default=None, description="When it ends, such as 2026-12-31; in UTC")
    revoked: bool = Field(default=False, description="It is told that it is not valid")

    @model_validator(mode="before")
    @classmethod
    def _no_text(cls, value: Any) -> Any:
        if isinstance(value, dict) and "key" in value:
            # Its value is not shown: it is a secret.
            raise WrongValue("holds the text of a key", "write its hash: `roundhouse keys hash` prints it")
        return value

    @property
    def expires_unix_s(self) -> float | None:
        if self.expires is None:
            return None
        return (self.expires if self.expires.tzinfo is not None else self.expires.replace(tzinfo=UTC)).timestamp()

    @property
    def key_id(self) -> str:
        return self.id if self.id is not None else f"key_{self.hash[:12]}"


class KeysFile(Section):
    keys: Annotated[tuple[KeySettings, ...], Some]

    @field_validator("keys")
    @classmethod
    def _distinct(cls, value: tuple[KeySettings, ...]) -> tuple[KeySettings, ...]:
        seen: dict[str, int] = {}
        for index, key in enumerate(value):
            for name, noun in ((key.hash, "this key"), (key.key_id, f"the id {key.key_id!r}")):
                first = seen.setdefault(name, index)
                if first != index:
                    raise WrongValue(f"{noun} is listed twice, first as keys[{first}]", "keep one", at=f"[{index}]")
        return value
