"""Who may use how much, and at what price: records of tenants, their projects, and the house rules. Pure.

A key belongs to a project, a project to a tenant. Each of the three may have limits of its own; all of them hold, and
the house's. Amounts are exact decimals as they are written (``Decimal``), whole units as they are counted (``units``):
money in NANO of the currency, GPU time in microseconds, the rest as it is. Times are Unix seconds.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from typing import Any

import msgspec

from models.store.base import Struct

DEFAULT_TENANT = "default"
DEFAULT_PROJECT = "default"
NANO = 10**9  # whole units in one of the currency
MICRO = 10**6  # microseconds in a GPU-second
MOST_UNITS = 2**53 - 1  # what a Lua number holds exactly: 9 million of the currency, 285 GPU-years


class What(StrEnum):
    """What is limited. ``tokens``: in and out together. ``concurrent``: requests at once; it has no window."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    CONCURRENT = "concurrent"
    GPU_SECONDS = "gpu_seconds"
    MONEY = "money"


UNITS_OF = {What.MONEY: NANO, What.GPU_SECONDS: MICRO}  # 1 for all others
CALENDAR = ("day", "week", "month", "ever")  # in UTC; a week begins on Monday


class LimitRule(Struct, frozen=True):
    """At most ``amount`` of ``what`` per ``per``: 1s, 1m, 1h, 24h ... for any window of that length, or day, week,
    month, ever for the calendar's (a budget); "" where ``what`` is concurrent.

    ``models``: a pattern (fnmatch) of the ids of the models that count. ``hard``: what would go above it is refused,
    and also what cannot be checked while the store is away where it is a budget. Else only ``alert_at`` counts: at
    these shares of the amount webhooks are told, once a window. A budget reserves what a request can cost at most, any
    other rule what it is likely to.
    """

    what: What
    amount: Decimal
    per: str = "1m"
    models: str = "*"
    hard: bool = True
    alert_at: tuple[float, ...] = ()

    @property
    def units(self) -> int:
        """The amount in whole units, rounded up."""
        return int((self.amount * UNITS_OF.get(self.what, 1)).to_integral_value(ROUND_CEILING))

    @property
    def is_budget(self) -> bool:
        return self.per in CALENDAR

    @property
    def name(self) -> str:
        """Among the rules of one place: two that differ in the amount only are one rule, changed."""
        return f"{self.what}/{self.per}/{self.models}" + ("" if self.hard else "/soft")


class Caps(Struct, frozen=True):
    """Of single requests; None: only the gateway's own."""

    max_body_bytes: int | None = None
    max_prompt_tokens: int | None = None  # as estimated before the engine counts them
    max_answer_tokens: int | None = None  # max_tokens that may be asked for


class ProjectRecord(Struct, frozen=True):
    """``name``: unique within its tenant."""

    name: str
    limits: tuple[LimitRule, ...] = ()
    blocked: str = ""  # why; "" while it may call


class TenantRecord(Struct, frozen=True):
    """``weight``: its share beside other tenants where requests wait. ``guaranteed_share``: of a model's work, at
    least, while it has requests waiting there (0 to 1), beside others of their priority; all tenants' together should
    be below 1.

    ``priority``: the highest that its keys may ask for, beside their own. ``price_list``: "" for the house's default.
    """

    tenant_id: str
    name: str = ""
    weight: float = 1.0
    guaranteed_share: float = 0.0
    priority: int = 0
    limits: tuple[LimitRule, ...] = ()
    caps: Caps = Caps()
    price_list: str = ""
    projects: dict[str, ProjectRecord] = msgspec.field(default_factory=dict)
    models: tuple[str, ...] = ()  # patterns of those that it may call; none: all
    blocked: str = ""
    created_unix_s: float = 0.0


class PriceLine(Struct, frozen=True):
    """What a model costs. ``model``: a pattern (fnmatch). Exact decimals of the house's currency per unit.

    A GPU-second is one of a whole GPU: a replica with a quarter of its memory uses one in four seconds, and requests
    that run on it at once share that. A GiB-second is counted in the same way. ``cached_token``: None is priced as
    any input.
    """

    model: str
    input_token: Decimal = Decimal(0)
    cached_token: Decimal | None = None
    output_token: Decimal = Decimal(0)
    gpu_second: Decimal = Decimal(0)
    gib_second: Decimal = Decimal(0)
    request: Decimal = Decimal(0)


class PriceList(Struct, frozen=True):
    """The first line that fits a model counts; one that none fits has its card's price, or is free."""

    name: str
    lines: tuple[PriceLine, ...] = ()


class Webhook(Struct, frozen=True):
    """``secret``: payloads are signed with it; two with a blank between them while it is being changed. ``events``:
    patterns of what it is told of, such as budget.*"""

    url: str
    secret: str
    events: tuple[str, ...] = ("*",)
    tenant: str = ""  # of this one only; "" for all
    allow_private: bool = False  # whether it may be on this machine or in a private network


class Block(Struct, frozen=True):
    """``what``: an address or network (CIDR), or the id of a key. ``until_unix_s``: None for good."""

    what: str
    reason: str
    since_unix_s: float
    until_unix_s: float | None = None


class Bearer(StrEnum):
    """Who bears GPU time that no request used."""

    CALLER = "caller"  # of starts only: the requests that waited for it
    OWNER = "owner"  # the tenant that the model's card names in owned_by, where there is such a tenant; else the pool
    POOL = "pool"  # the operator


class CoolDown(Struct, frozen=True):
    """A key or an address that was answered 4xx (429 apart) so many times within a while is refused for another.

    ``failures``: 0 for never; of a key they count where they are at least half of its requests. Of an address only
    those count that came without a key that is known, and a fifth of them is enough; nothing is refused there but what
    comes without such a key.
    """

    failures: int = 100
    within_s: float = 10.0
    for_s: float = 30.0


class HouseRecord(Struct, frozen=True):
    """What holds for all. ``key_limits``: of each key by itself, ``model_limits``: of all callers together, by the
    rules' own patterns. ``trusted_proxies``: networks whose word (x-forwarded-for) is taken for a caller's address.
    """

    currency: str = "USD"
    price_lists: dict[str, PriceList] = msgspec.field(default_factory=dict)
    default_price_list: str = ""
    # A bound for runaway agents rather than a limit: the headers that tell callers of limits are always there.
    key_limits: tuple[LimitRule, ...] = (
        LimitRule(what=What.REQUESTS, amount=Decimal(10_000_000)),
        LimitRule(what=What.TOKENS, amount=Decimal(10_000_000_000)),
    )
    model_limits: tuple[LimitRule, ...] = ()
    starts_charged_to: Bearer = Bearer.CALLER
    idle_charged_to: Bearer = Bearer.POOL
    webhooks: tuple[Webhook, ...] = ()
    blocks: tuple[Block, ...] = ()
    cool_down: CoolDown = CoolDown()
    trusted_proxies: tuple[str, ...] = ()
    version: int = 0  # of prices: one more with each change


class AuditRecord(Struct, frozen=True):
    """One act of an administrator. ``by``: a key's id, or cli:USER. ``before``, ``after``: None where there is none."""

    id: str
    at_unix_s: float
    by: str
    act: str  # tenant.create, key.revoke, node.drain ...
    what: str  # the id of what it was done to
    before: Any = None  # as JSON has it
    after: Any = None
    address: str = ""
    request_id: str = ""
