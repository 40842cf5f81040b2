"""What tenants, keys and house rules may say. Everything that is written has passed here, whoever wrote it."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Iterable
from decimal import Decimal
from fnmatch import fnmatchcase

from models.catalog.errors import WrongValue
from models.store.errors import TenancyRefused
from models.store.limit_text import check_limits
from models.store.records import KeyRecord
from models.store.tenancy import (
    DEFAULT_PROJECT,
    DEFAULT_TENANT,
    Bearer,
    Caps,
    HouseRecord,
    LimitRule,
    PriceLine,
    PriceList,
    ProjectRecord,
    TenantRecord,
    Webhook,
)
from models.store.tenants import Tenancy
from models.store.webhook_checks import SecretNotValid, UrlNotValid, check_url, secrets_of

LONGEST_TEXT = 200
MOST_WEIGHT = 1_000_000.0
MOST_PRIORITY = 1000
MOST_PATTERNS, MOST_LIMITS = 200, 50
MOST_PRICE = Decimal(10**6)
PRICE_PLACES = 18  # after the point
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_HOW_NAME = "start with a letter or digit, use only letters, digits, '.', '_' and '-', at most 63 in all"


def check_key(known: Tenancy, record: KeyRecord) -> None:
    """Raises TenancyRefused."""
    tenant = known.tenants.get(record.tenant)
    if tenant is None and record.tenant != DEFAULT_TENANT:
        cure = f"make it: roundhouse tenants create {record.tenant[:80]}"
        raise TenancyRefused(f"there is no tenant {record.tenant[:80]!r}; {cure}", "tenant", "tenant_not_found")
    projects = tenant.projects if tenant is not None else {}
    if record.project not in projects and record.project != DEFAULT_PROJECT:
        cure = f"make it: roundhouse tenants project create {record.tenant} {record.project[:80]}"
        said = f"the tenant {record.tenant!r} has no project {record.project[:80]!r}; {cure}"
        raise TenancyRefused(said, "project", "project_not_found")
    _check_weight(record.weight, "weight")
    _check_priority(record.priority, "priority")
    _check_patterns(record.models, "models")
    _check_patterns(record.endpoints, "endpoints")
    _check_limits(record.limits, "limits")


def check_tenant(record: TenantRecord, house: HouseRecord) -> None:
    """Raises TenancyRefused."""
    check_name(record.tenant_id, "tenant_id", "tenant")
    _check_text(record.name, "name")
    _check_text(record.blocked, "blocked")
    _check_weight(record.weight, "weight")
    _check_priority(record.priority, "priority")
    if not 0 <= record.guaranteed_share <= 1:
        raise TenancyRefused("a guaranteed share is from 0 to 1, such as 0.25", "guaranteed_share")
    _check_patterns(record.models, "models")
    _check_limits(record.limits, "limits")
    check_caps(record.caps)
    if record.price_list and record.price_list not in house.price_lists:
        names = ", ".join(sorted(house.price_lists)) or "there is none yet: roundhouse prices set"
        raise TenancyRefused(f"there is no price list {record.price_list[:80]!r}; known: {names}", "price_list")
    for name, project in record.projects.items():
        try:
            check_project(project)
        except TenancyRefused as wrong:
            raise TenancyRefused(str(wrong), f"projects.{name}.{wrong.field}") from None


def check_project(record: ProjectRecord) -> None:
    """Raises TenancyRefused."""
    check_name(record.name, "name", "project")
    _check_limits(record.limits, "limits")
    _check_text(record.blocked, "blocked")


def check_caps(caps: Caps) -> None:
    """Raises TenancyRefused."""
    for name in Caps.__struct_fields__:
        most = getattr(caps, name)
        if most is not None and not 1 <= most < 2**53:
            raise TenancyRefused(f"{name} is 1 or more, or left out for none", f"caps.{name}")


def check_house(house: HouseRecord) -> None:
    """Raises TenancyRefused."""
    if not _CURRENCY.fullmatch(house.currency):
        raise TenancyRefused(
            f"{house.currency[:20]!r} is no currency; write its three letters, such as USD", "currency"
        )
    for name, prices in house.price_lists.items():
        check_name(name, "price_lists", "price list")
        check_price_list(prices)
    if house.default_price_list and house.default_price_list not in house.price_lists:
        said = f"there is no price list {house.default_price_list[:80]!r}; set it first: roundhouse prices set"
        raise TenancyRefused(said, "default_price_list")
    _check_limits(house.key_limits, "key_limits")
    _check_limits(house.model_limits, "model_limits")
    if house.idle_charged_to == Bearer.CALLER:
        said = "nobody calls while a replica is idle; choose owner or pool"
        raise TenancyRefused(said, "idle_charged_to")
    for index, block in enumerate(house.blocks):
        _check_text(block.reason, f"blocks[{index}].reason")
    for index, network in enumerate(house.trusted_proxies):
        if not is_network(network):
            said = f"{network[:80]!r} is no network; write one such as 10.0.0.0/8 or 192.0.2.7"
            raise TenancyRefused(said, f"trusted_proxies[{index}]")
    for index, webhook in enumerate(house.webhooks):
        _check_webhook(webhook, f"webhooks[{index}]")
    cool = house.cool_down
    if cool.failures < 0 or not 0 < cool.within_s <= 3600 or not 0 < cool.for_s <= 86_400:
        said = "so many failures (0: never) within up to 1h, refused for up to 24h; write such as 100/10s:30s"
        raise TenancyRefused(said, "cool_down")


def check_price_list(prices: PriceList) -> None:
    """Raises TenancyRefused."""
    seen: set[str] = set()
    for index, line in enumerate(prices.lines):
        at = f"lines[{index}]"
        _check_patterns((line.model,), f"{at}.model")
        if line.model in seen:
            raise TenancyRefused(f"{line.model!r} has a price already; only the first counts", f"{at}.model")
        wider = next((other.model for other in prices.lines[:index] if covers(other.model, line.model)), None)
        if wider is not None:
            said = f"{line.model!r} would never count: {wider!r} before it fits all that it fits; write it above that"
            raise TenancyRefused(said, f"{at}.model")
        seen.add(line.model)
        for unit in PriceLine.__struct_fields__:
            value = getattr(line, unit)
            if isinstance(value, Decimal):
                _check_price(value, f"{at}.{unit}")


def is_pattern(model: str) -> bool:
    return any(character in model for character in "*?[")


def covers(wide: str, narrow: str) -> bool:
    """All that the pattern ``narrow`` fits, ``wide`` fits, too, as far as that is plain to see."""
    if not is_pattern(narrow):
        return fnmatchcase(narrow, wide)
    return wide.endswith("*") and not is_pattern(wide[:-1]) and narrow.startswith(wide[:-1])


def check_name(name: str, field: str, noun: str) -> None:
    """Raises TenancyRefused."""
    if not _NAME.fullmatch(name):
        raise TenancyRefused(f"{name[:80]!r} is no name of a {noun}; {_HOW_NAME}", field)


def is_network(text: str) -> bool:
    """An address counts as one of a single host."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _check_price(price: Decimal, field: str) -> None:
    places = -int(price.normalize().as_tuple().exponent) if price.is_finite() else 0
    if not price.is_finite() or not 0 <= price <= MOST_PRICE or places > PRICE_PLACES:
        said = f"{str(price)[:40]} is no price; write a decimal number from 0 to {MOST_PRICE}, such as 0.0000025"
        raise TenancyRefused(said, field)


def _check_webhook(webhook: Webhook, at: str) -> None:
    try:
        check_url(webhook.url)
    except UrlNotValid as wrong:
        raise TenancyRefused(str(wrong), f"{at}.url") from None
    try:
        secrets_of(webhook.secret)
    except SecretNotValid as wrong:
        raise TenancyRefused(str(wrong), f"{at}.secret") from None
    _check_patterns(webhook.events, f"{at}.events")


def _check_limits(rules: tuple[LimitRule, ...], field: str) -> None:
    if len(rules) > MOST_LIMITS:
        raise TenancyRefused(f"{len(rules)} limits in one place are too many; at most {MOST_LIMITS}", field)
    try:
        check_limits(rules)
    except WrongValue as wrong:
        raise TenancyRefused(str(wrong), f"{field}{wrong.at}") from None


def _check_weight(weight: float, field: str) -> None:
    if not (math.isfinite(weight) and 0 < weight <= MOST_WEIGHT):
        raise TenancyRefused(f"a weight is above 0 and at most {MOST_WEIGHT:.0f}; 1 is the usual", field)


def _check_priority(priority: int, field: str) -> None:
    if abs(priority) > MOST_PRIORITY:
        raise TenancyRefused(f"a priority is a whole number from -{MOST_PRIORITY} to {MOST_PRIORITY}", field)


def _check_patterns(patterns: Iterable[str], field: str) -> None:
    given = list(patterns)
    if len(given) > MOST_PATTERNS:
        raise TenancyRefused(f"{len(given)} patterns are too many; at most {MOST_PATTERNS}", field)
    for index, pattern in enumerate(given):
        if not pattern.strip() or len(pattern) > LONGEST_TEXT or not pattern.isprintable() or " " in pattern:
            said = f"{pattern[:60]!r} is no pattern; write a name, or one with *, such as org/*"
            raise TenancyRefused(said, f"{field}[{index}]" if len(given) > 1 else field)


def _check_text(text: str, field: str) -> None:
    if len(text) > LONGEST_TEXT or (text and not text.isprintable()):
        raise TenancyRefused(f"up to {LONGEST_TEXT} printable characters", field)
