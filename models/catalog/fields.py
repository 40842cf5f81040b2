"""Field types of the configuration: what is written in YAML, what is read from it, and its JSON Schema."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.catalog.errors import WrongValue
from models.catalog.units import parse_bytes, parse_seconds

MODEL_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$"
_MODEL_ID = re.compile(MODEL_ID_PATTERN[1:-1], re.ASCII)


class Section(BaseModel):
    """Keys and values below one key; a key that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def check_model_id(value: str) -> str:
    """Raises WrongValue. Segments of dots alone are refused: clients would fold them away in ``/v1/models/{id}``."""
    if not _MODEL_ID.fullmatch(value) or any(part.strip(".") == "" for part in value.split("/")):
        raise WrongValue(
            f"{value[:60]!r} is not a model id",
            "start with a letter or digit, use only letters, digits, '.', '_', '-' and single '/', at most 128 in all",
        )
    return value


def check_price(value: Any) -> str:
    """A price as exact decimal text, however it was written. Raises WrongValue."""
    try:
        # By its text: 0.1 as a binary fraction is not what was written.
        price = Decimal(str(value)) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except InvalidOperation:
        price = None
    if price is None or not price.is_finite() or not 0 <= price < 10**9 or abs(price.adjusted()) > 30:
        raise WrongValue(f"{str(value)[:60]!r} is not a price", "write a decimal number such as 0.0000025")
    return format(price, "f")


def check_adapter_folder(value: str) -> str:
    """Raises WrongValue."""
    if not value.strip() or "\0" in value or "://" in value:
        raise WrongValue(f"{value[:60]!r} is not a folder", "name one on this node, with its adapter_config.json")
    return value


_SIZE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(B|[KkMmGgTt]([Ii])?[Bb]|b)?\s*$"},
    ],
    "description": "Bytes: a whole number, or a size like 512MiB, 1.5GiB, 2GB",
}
_DURATION_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(ms|s|m|h)?\s*$"},
    ],
    "description": "Seconds: a number, or a duration like 500ms, 10s, 5m, 2h",
}

Bytes = Annotated[int, BeforeValidator(parse_bytes), WithJsonSchema(_SIZE_SCHEMA)]
Seconds = Annotated[float, BeforeValidator(parse_seconds), WithJsonSchema(_DURATION_SCHEMA)]
Name = Annotated[str, AfterValidator(check_model_id), WithJsonSchema({"type": "string", "pattern": MODEL_ID_PATTERN})]
PriceUnit = Literal["input_token", "output_token", "gpu_second", "request"]
Price = Annotated[
    str,
    BeforeValidator(check_price),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^[0-9.eE+-]+$"}]}),
]
AdapterFolder = Annotated[str, AfterValidator(check_adapter_folder), WithJsonSchema({"type": "string", "minLength": 1})]
Count = Annotated[int, Field(strict=True, ge=0, le=10_000)]
