"""What may be said of tenants, keys, prices and the house's rules: over HTTP, in a file, on the command line.

What is left out stays as it is. Limits are written as text (``models.store.limit_text``) or as the records that are
shown.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.catalog.errors import WrongValue
from models.catalog.units import parse_bytes, parse_seconds
from models.store.api_keys import LONGEST_NAME
from models.store.house_edits import new_secret
from models.store.limit_text import check_limit, parse_limit
from models.store.price_text import parse_price
from models.store.tenancy import Bearer, Caps, CoolDown, HouseRecord, LimitRule, PriceLine, Webhook

LONGEST = 200
_LIMIT_SCHEMA = {
    "anyOf": [
        {"type": "string", "examples": ["requests=100/1m", "money=25/month", "tokens=1M/day:soft@50%,80%"]},
        {
            "type": "object",
            "required": ["what", "amount"],
            "properties": {
                "what": {"type": "string"},
                "amount": {"anyOf": [{"type": "number"}, {"type": "string"}]},
                "per": {"type": "string"},
                "models": {"type": "string"},
                "hard": {"type": "boolean"},
                "alert_at": {"type": "array", "items": {"type": "number"}},
            },
        },
    ]
}
_PRICE_SCHEMA = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}


def read_limit(value: Any) -> LimitRule:
    """Raises WrongValue."""
    if isinstance(value, LimitRule):
        return value
    if isinstance(value, str):
        return parse_limit(value)
    try:
        rule = msgspec.convert(value, LimitRule, strict=False)
    except msgspec.ValidationError as wrong:
        raise WrongValue(f"is not a limit ({wrong})", "write text such as requests=100/1m") from None
    check_limit(rule)
    return rule


def _seconds(value: Any) -> float:
    """Also days, which durations elsewhere have no use for."""
    if isinstance(value, str) and value.strip().endswith("d") and value.strip()[:-1].isdigit():
        return float(value.strip()[:-1]) * 86_400
    return parse_seconds(value)


Limit = Annotated[LimitRule, BeforeValidator(read_limit), WithJsonSchema(_LIMIT_SCHEMA)]
Price = Annotated[Decimal, BeforeValidator(parse_price), WithJsonSchema(_PRICE_SCHEMA)]
Patterns = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=LONGEST)], ...], Field(max_length=200)]
Text = Annotated[str, Field(max_length=LONGEST)]
Limits = Annotated[tuple[Limit, ...], Field(max_length=50)]
Duration = Annotated[float, BeforeValidator(_seconds), WithJsonSchema({"type": ["number", "string"]})]
Size = Annotated[int, BeforeValidator(parse_bytes), WithJsonSchema({"type": ["integer", "string"]})]


class Fields(BaseModel):
    """``given``: those that were written, as records have them."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), arbitrary_types_allowed=True)

    @property
    def given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}


class CapsFields(Fields):
    """Of single requests; null: only the gateway's own."""

    max_body_bytes: Size | None = None
    max_prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    max_answer_tokens: Annotated[int, Field(ge=1)] | None = None

    def over(self, caps: Caps) -> Caps:
        return msgspec.structs.replace(caps, **self.given)


class ProjectFields(Fields):
    limits: Limits = ()
    blocked: Text = ""


class TenantFields(Fields):
    """``weight``: its share beside other tenants where requests wait. ``guaranteed_share``: of a model's work, at
    least, while it waits for it. ``priority``: the highest that its keys may ask for. ``models``: patterns of those
    that it may call; none: all. ``blocked``: why it may call nothing; "" while it may."""

    name: Text = ""
    weight: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = 1.0
    guaranteed_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = 0
    limits: Limits = ()
    caps: CapsFields = CapsFields()
    price_list: Text = ""
    models: Patterns = ()
    blocked: Text = ""


class KeyFields(Fields):
    """``scopes``: inference, admin:read, admin:write; admin is both. ``models``, ``endpoints``: patterns of what it may
    call; none: all that its tenant may. ``expires_unix_s``: when it ends; null: never."""

    name: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)] = ""
    scopes: Annotated[tuple[Text, ...], Field(min_length=1, max_length=4)] = ("inference",)
    weight: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] = 1.0
    priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = 0
    tenant: Text = "default"
    project: Text = "default"
    models: Patterns = ()
    endpoints: Patterns = ()
    expires_unix_s: Annotated[float, Field(gt=0, le=1e11)] | None = None
    limits: Limits = ()


class PriceFields(Fields):
    """What a model costs, in the house's currency: 0.0000025 of one, or 2.50/1M of a million, or 3.60/1h of an hour of
    seconds. ``cached_token``: left out, a cached one costs as any of the prompt's."""

    model: Text
    input_token: Price = Decimal(0)
    cached_token: Price | None = None
    output_token: Price = Decimal(0)
    gpu_second: Price = Decimal(0)
    gib_second: Price = Decimal(0)
    request: Price = Decimal(0)

    @property
    def line(self) -> PriceLine:
        return PriceLine(**self.given)


class CoolDownFields(Fields):
    """So many failures within a while are answered with a refusal for another; 0 failures: never."""

    failures: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    within_s: Duration = 10.0
    for_s: Duration = 30.0

    @property
    def record(self) -> CoolDown:
        return CoolDown(failures=self.failures, within_s=self.within_s, for_s=self.for_s)


class WebhookFields(Fields):
    """``secret``: left out, the one it has stays, or one is made. ``events``: patterns such as budget.*"""

    url: Annotated[str, Field(min_length=1, max_length=2000)]
    events: Patterns = ("*",)
    tenant: Text = ""
    allow_private: bool = False
    secret: Annotated[str, Field(max_length=LONGEST)] | None = None


class BlockFields(Fields):
    """``what``: an address or network, or the id of a key. ``until_unix_s``: null for good."""

    what: Text
    reason: Annotated[str, Field(min_length=1, max_length=LONGEST)]
    until_unix_s: Annotated[float, Field(gt=0, le=1e11)] | None = None


class HouseFields(Fields):
    """``key_limits``: of each key by itself. ``model_limits``: of all callers together. ``trusted_proxies``: networks
    whose word (x-forwarded-for) is taken for a caller's address."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    default_price_list: Text = ""
    key_limits: Limits = ()
    model_limits: Limits = ()
    starts_charged_to: Bearer = Bearer.CALLER
    idle_charged_to: Annotated[Bearer, Field(description="owner or pool")] = Bearer.POOL
    cool_down: CoolDownFields = CoolDownFields()
    trusted_proxies: Patterns = ()

    @property
    def given(self) -> dict[str, Any]:
        found = super().given
        if "cool_down" in found:
            found["cool_down"] = self.cool_down.record
        return found


def webhook_of(house: HouseRecord, given: WebhookFields) -> tuple[Webhook, dict[str, str]]:
    """With the secret that it was given, or has, or gets now; then that is told, by the URL."""
    known = (one.secret for one in house.webhooks if (one.url, one.tenant) == (given.url, given.tenant))
    secret = given.secret or next(known, "")
    new = {} if secret else {given.url: new_secret()}
    fields = {**given.given, "secret": secret or new[given.url]}
    return msgspec.convert(fields, Webhook), new
