"""The shapes of what the admin API says of tenants, keys, prices and house rules. Times are Unix seconds."""

from __future__ import annotations

import msgspec

from models.store.records import KeyRecord
from models.store.tenancy import (
    AuditRecord,
    Block,
    HouseRecord,
    LimitRule,
    PriceLine,
    PriceList,
    ProjectRecord,
    TenantRecord,
    Webhook,
)


class TenantView(TenantRecord, frozen=True):
    """``limits_text``: its limits as they are written. ``keys``: ids of those that work.

    ``version``: give it with a change, and that is refused if anything was changed meanwhile.
    """

    limits_text: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    version: int = 0


class TenantList(msgspec.Struct, kw_only=True):
    object: str = "list"
    version: int
    data: tuple[TenantView, ...]


class KeyList(msgspec.Struct, kw_only=True):
    """A key that is being rotated is there twice, with one id: once for each of its texts."""

    object: str = "list"
    data: tuple[KeyRecord, ...]


class NewKey(KeyRecord, frozen=True):
    """``key`` is shown this once; only its hash is stored."""

    key: str = ""


class HouseView(msgspec.Struct, kw_only=True):
    """``house``: without the secrets of webhooks. ``new_secrets``: those that this call made, by URL, this once."""

    version: int
    house: HouseRecord
    new_secrets: dict[str, str] = msgspec.field(default_factory=dict)


class PriceLists(msgspec.Struct, kw_only=True):
    """``version``: of prices; one more with each change."""

    object: str = "list"
    version: int
    currency: str
    default: str
    data: tuple[PriceList, ...]


class BlockList(msgspec.Struct, kw_only=True):
    object: str = "list"
    data: tuple[Block, ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """``before``, ``after``: as text; null where there is none."""

    path: str
    before: str | None
    after: str | None


class Applied(msgspec.Struct, kw_only=True):
    """What a document changes. ``new_secrets``: of webhooks, by URL, this once."""

    version: int
    dry_run: bool
    differences: tuple[Difference, ...]
    new_secrets: dict[str, str] = msgspec.field(default_factory=dict)


class AuditList(msgspec.Struct, kw_only=True):
    """The newest first. Times are Unix seconds."""

    object: str = "list"
    data: tuple[AuditRecord, ...]


DOCUMENTS = (
    TenantRecord, TenantView, TenantList, KeyList, NewKey, KeyRecord, HouseView, HouseRecord, PriceLists, PriceList,
    BlockList, Block, Applied, AuditList, ProjectRecord, LimitRule, PriceLine, Webhook,
)  # fmt: skip
