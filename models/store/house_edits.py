"""What holds for all is changed: prices, blocks, webhooks, bounds. Pure: what is to become of what is known."""

from __future__ import annotations

import base64
import ipaddress
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from models.store.checks import check_house, check_name, is_network
from models.store.errors import NotThere, TenancyRefused
from models.store.tenancy import Block, HouseRecord, PriceList, Webhook
from models.store.tenants import Edit, Place, Tenancy

SETTABLE = (
    "currency", "default_price_list", "key_limits", "model_limits", "starts_charged_to", "idle_charged_to", "cool_down",
    "trusted_proxies", "webhooks", "blocks", "price_lists",
)  # fmt: skip
PRICED = ("currency", "default_price_list", "price_lists")
SECRET_PREFIX = "whsec_"  # https://www.standardwebhooks.com: base64 of 24 to 64 bytes follows
_SECRET_BYTES = 32

Changed = tuple[Sequence[Edit], HouseRecord]


def setting(known: Tenancy, fields: Mapping[str, Any], act: str = "house.set", what: str = "house") -> Changed:
    """Raises TenancyRefused. Other prices get another version."""
    given = {name: value for name, value in fields.items() if name in SETTABLE}
    return _becomes(known, msgspec.structs.replace(known.house, **given), act, what)


def price_setting(known: Tenancy, prices: PriceList, *, default: bool = False) -> Changed:
    """The list of this name is this one from now on. ``default``: it counts for tenants that have none of their own, as
    the first that there is does anyway. Raises TenancyRefused."""
    check_name(prices.name, "name", "price list")
    house = known.house
    fields: dict[str, Any] = {"price_lists": {**house.price_lists, prices.name: prices}}
    if default or not house.price_lists:
        fields["default_price_list"] = prices.name
    return _of_prices(known, fields, "prices.set", prices.name)


def price_deleting(known: Tenancy, name: str) -> Changed:
    """Raises TenancyRefused, NotThere."""
    house = known.house
    if name not in house.price_lists:
        said = f"there is no price list {name[:80]!r}; known: {', '.join(sorted(house.price_lists)) or 'none'}"
        raise NotThere(said, "name", "price_list_not_found")
    users = [f"the tenant {one.tenant_id}" for one in known.tenants.values() if one.price_list == name]
    users += ["the house, as its default"] if house.default_price_list == name else []
    if users:
        raise TenancyRefused(f"the price list {name!r} is used by {', '.join(users[:5])}", "name", "price_list_in_use")
    rest = {other: prices for other, prices in house.price_lists.items() if other != name}
    return _of_prices(known, {"price_lists": rest}, "prices.delete", name)


def block_adding(
    known: Tenancy, what: str, reason: str, now_unix_s: float, until_unix_s: float | None = None
) -> Changed:
    """``what``: an address, a network, or the id of a key; a block that it has already is replaced. Raises
    TenancyRefused."""
    named = blocked_name(known, what)
    if not reason.strip():
        raise TenancyRefused("a block has a reason, for those who find it later", "reason")
    if until_unix_s is not None and until_unix_s <= now_unix_s:
        raise TenancyRefused("this block would be over already", "until_unix_s")
    rest = tuple(one for one in known.house.blocks if one.what != named and not is_over(one, now_unix_s))
    block = Block(what=named, reason=reason.strip(), since_unix_s=now_unix_s, until_unix_s=until_unix_s)
    return _of_block(known, (*rest, block), "block.add", named, None, block)


def block_removing(known: Tenancy, what: str) -> Changed:
    """Raises NotThere."""
    named = str(ipaddress.ip_network(what, strict=False)) if is_network(what) else what
    gone = next((one for one in known.house.blocks if one.what == named), None)
    if gone is None:
        said = f"{what[:80]!r} is not blocked; `roundhouse house show` lists what is"
        raise NotThere(said, "what", "block_not_found")
    rest = tuple(one for one in known.house.blocks if one.what != named)
    return _of_block(known, rest, "block.remove", named, gone, None)


def webhook_adding(known: Tenancy, webhook: Webhook) -> Changed:
    """One for the same URL and tenant is replaced. Raises TenancyRefused."""
    rest = tuple(one for one in known.house.webhooks if _who(one) != _who(webhook))
    if webhook.tenant and webhook.tenant not in known.tenants:
        raise TenancyRefused(f"there is no tenant {webhook.tenant[:80]!r}", "tenant", "tenant_not_found")
    return setting(known, {"webhooks": (*rest, webhook)}, "webhook.add", webhook.url)


def webhook_removing(known: Tenancy, url: str) -> Changed:
    """Of all tenants. Raises NotThere."""
    rest = tuple(one for one in known.house.webhooks if one.url != url)
    if len(rest) == len(known.house.webhooks):
        raise NotThere(f"no webhook has the URL {url[:200]!r}", "url", "webhook_not_found")
    return setting(known, {"webhooks": rest}, "webhook.remove", url)


def new_secret(random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    return SECRET_PREFIX + base64.b64encode(random_bytes(_SECRET_BYTES)).decode()


def is_over(block: Block, now_unix_s: float) -> bool:
    return block.until_unix_s is not None and block.until_unix_s <= now_unix_s


def blocked_name(known: Tenancy, what: str) -> str:
    """One form for one network. Raises TenancyRefused."""
    if is_network(what):
        return str(ipaddress.ip_network(what, strict=False))
    if what in {key.key_id for key in known.keys.values()}:
        return what
    said = f"{what[:80]!r} is neither an address or network (192.0.2.7, 10.0.0.0/8) nor the id of a key"
    raise TenancyRefused(said, "what")


def _who(webhook: Webhook) -> tuple[str, str]:
    return webhook.url, webhook.tenant


def _of_prices(known: Tenancy, fields: Mapping[str, Any], act: str, name: str) -> Changed:
    house = msgspec.structs.replace(known.house, **fields)
    shown = known.house.price_lists.get(name), house.price_lists.get(name)
    return _becomes(known, house, act, name, *shown)


def _of_block(known: Tenancy, blocks: tuple[Block, ...], act: str, what: str, before: object, after: object) -> Changed:
    return _becomes(known, msgspec.structs.replace(known.house, blocks=blocks), act, what, before, after)


def _becomes(
    known: Tenancy, house: HouseRecord, act: str, what: str, before: object = None, after: object = None
) -> Changed:
    if house == known.house:
        return [], house
    if any(getattr(house, name) != getattr(known.house, name) for name in PRICED):
        house = msgspec.structs.replace(house, version=known.house.version + 1)
    check_house(house)
    return [Edit(Place.HOUSE, "", house, act, what, shown_before=before, shown_after=after)], house
