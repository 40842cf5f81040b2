"""On whose account a request goes: a key, its project and its tenant, with all the rules that hold for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import NamedTuple

import structlog

from gateway.endpoints import Endpoint
from gateway.errors import Forbidden, StoreUnavailable
from gateway.inquiry import Caller
from gateway.tenant_book import TenantBook
from models.store.records import KeyRecord, ModelRoute
from models.store.tenancy import DEFAULT_TENANT, Caps, HouseRecord, LimitRule, PriceLine, ProjectRecord, TenantRecord

FREE = PriceLine(model="*")
NO_CAPS = Caps()
PRICED = frozenset(PriceLine.__struct_fields__) - {"model"}
HOUSE = "model:house"
MOST_KNOWN = 10_000  # accounts, before they are made anew

log = structlog.get_logger(__name__)


class Placed(NamedTuple):
    """A rule where it holds: key:ID, project:TENANT/NAME, tenant:ID, or model:house for all callers together."""

    place: str
    rule: LimitRule


@dataclass(slots=True, eq=False)
class Account:
    """Made anew when its key, its tenant or the house's rules change; until then what is worked out here stays."""

    caller: Caller
    key: KeyRecord
    project: ProjectRecord
    tenant: TenantRecord
    house: HouseRecord
    generation: int = 0  # of the book that was last looked at
    capped: bool = field(init=False)  # whether its tenant has caps of its own
    asked: int = 0  # requests, since it was made
    _rules: dict[str, tuple[Placed, ...]] = field(default_factory=dict)
    _prices: dict[str, tuple[ModelRoute, PriceLine]] = field(default_factory=dict)
    _models: dict[str, tuple[ModelRoute, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.capped = self.tenant.caps != NO_CAPS

    def rules(self, model: str) -> tuple[Placed, ...]:
        """All that hold for its requests to this model, by its id: its key's, project's, tenant's, the house's."""
        known = self._rules.get(model)
        if known is None:
            known = self._rules[model] = tuple(one for one in self.every_rule() if fnmatchcase(model, one.rule.models))
        return known

    def every_rule(self) -> tuple[Placed, ...]:
        """Whatever the model: its key's, project's and tenant's, and the house's."""
        key, tenant, project = self.key, self.tenant, self.project
        own = {rule.name for rule in key.limits}  # what a key has of its own stands instead of what all keys have
        every = tuple(rule for rule in self.house.key_limits if rule.name not in own)
        return (
            *(Placed(f"key:{key.key_id}", rule) for rule in (*key.limits, *every)),
            *(Placed(f"project:{tenant.tenant_id}/{project.name}", rule) for rule in project.limits),
            *(Placed(f"tenant:{tenant.tenant_id}", rule) for rule in tenant.limits),
            *(Placed(HOUSE, rule) for rule in self.house.model_limits),
        )

    def price(self, route: ModelRoute) -> PriceLine:
        """By the tenant's price list, else the house's, else the model's card; FREE where none names it."""
        known = self._prices.get(route.model_id)
        if known is None or known[0] is not route:
            line = price_line(self.house, self.price_list, route.model_id) or card_price(route) or FREE
            known = self._prices[route.model_id] = (route, line)
        return known[1]

    @property
    def price_list(self) -> str:
        """By its name; "": only models' cards count."""
        own = self.tenant.price_list
        return own if own in self.house.price_lists else self.house.default_price_list

    def check_model(self, route: ModelRoute, asked: str) -> None:
        """Whether it may call this model, which it asked for by this name. Raises Forbidden. About 0.1 us."""
        known = self._models.get(asked)
        if known is None or known[0] is not route:
            known = self._models[asked] = (route, self.may_call(route, asked))
        if not known[1]:
            message = f"This API key may not call the model '{asked[:200]}'. GET /v1/models lists those that it may."
            raise Forbidden(message, param="model", code="model_not_allowed")

    def may_call(self, route: ModelRoute, asked: str) -> bool:
        """An adapter goes by its own name, a model by its id and all of its aliases alike."""
        if not self.key.models and not self.tenant.models:
            return True
        of_adapter = asked in route.adapters and asked != route.model_id and asked not in route.aliases
        names = (asked,) if of_adapter else (route.model_id, *route.aliases)
        return all(fits(names, patterns) for patterns in (self.key.models, self.tenant.models))

    def check_endpoint(self, endpoint: Endpoint) -> None:
        """Raises Forbidden. By the endpoint's name or its path."""
        if self.key.endpoints and not fits((endpoint.name, endpoint.path), self.key.endpoints):
            message = f"This API key may not call {endpoint.path}; it may call {', '.join(self.key.endpoints)}."
            raise Forbidden(message, code="endpoint_not_allowed")


class Accounts:
    """Of all callers that this worker has seen lately."""

    def __init__(self, book: TenantBook | None = None) -> None:
        self.book = TenantBook() if book is None else book
        # By the record itself: a key that is being rotated has two, and each stays the same while it is unchanged.
        self._known: dict[int, Account] = {}
        self._by_key: dict[str, Account] = {}
        self._told: set[str] = set()

    def of(self, record: KeyRecord) -> Account:
        """Raises Forbidden where its tenant or project is blocked, StoreUnavailable before tenants were ever read.

        About 0.15 us once it is known.
        """
        known = self._known.get(id(record))
        if known is not None and known.generation == self.book.generation:
            return known
        account = self._account(record, known)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
            self._by_key.clear()
        self._known[id(record)] = self._by_key[record.key_id] = account  # holds the record: its id stays its own
        return account

    def of_caller(self, caller: Caller) -> Account:
        """Of what the gateway asks of itself, such as lines of a batch. Raises as ``of`` does."""
        known = self._by_key.get(caller.key_id)
        return self.of(record_of(caller) if known is None else known.key)

    def asked(self, key_id: str) -> int:
        """Requests of this key since its account was made."""
        known = self._by_key.get(key_id)
        return 0 if known is None else known.asked

    def _account(self, record: KeyRecord, before: Account | None) -> Account:
        book = self.book
        if book.awaited and not book.loaded:
            raise StoreUnavailable("Tenants cannot be looked up at the moment; try again.", retry_after_s=1.0)
        tenant = book.tenants.get(record.tenant) or self._bare(record)
        _check(tenant, record.project)
        if before is not None and before.tenant == tenant and before.house is book.house:
            before.generation = book.generation
            return before
        project = tenant.projects.get(record.project) or ProjectRecord(name=record.project)
        return Account(caller_of(record, tenant), record, project, tenant, book.house, book.generation)

    def _bare(self, record: KeyRecord) -> TenantRecord:
        """Of a tenant that nobody has set up. Without the store's word nobody is missed."""
        if self.book.loaded and record.tenant not in self._told and record.tenant != DEFAULT_TENANT:
            self._told.add(record.tenant)
            log.warning("a key is of a tenant that does not exist", key_id=record.key_id, tenant=record.tenant)
        return TenantRecord(tenant_id=record.tenant)


def caller_of(record: KeyRecord, tenant: TenantRecord) -> Caller:
    return Caller(
        tenant=tenant.tenant_id,
        name=record.name,
        weight=tenant.weight,
        priority=max(record.priority, tenant.priority),
        key_id=record.key_id,
        project=record.project,
        share=tenant.guaranteed_share,
        key_weight=record.weight,
        key=record,
    )


def record_of(caller: Caller) -> KeyRecord:
    """Of one that is not known here, or not any more."""
    return caller.key or KeyRecord(
        key_id=caller.key_id,
        name=caller.name,
        scopes=(),
        prefix="",
        created_unix_s=0.0,
        weight=caller.key_weight,
        priority=caller.priority,
        tenant=caller.tenant,
        project=caller.project,
    )


def price_line(house: HouseRecord, name: str, model: str) -> PriceLine | None:
    """The first line of this list that fits the model's id. None: no list of this name, or no line."""
    prices = house.price_lists.get(name)
    return next((line for line in prices.lines if fnmatchcase(model, line.model)), None) if prices else None


def card_price(route: ModelRoute) -> PriceLine | None:
    """None where its card has none."""
    found = {unit: Decimal(value) for unit, value in route.price.items() if unit in PRICED}
    return PriceLine(model=route.model_id, **found) if found else None


def fits(names: Iterable[str], patterns: tuple[str, ...]) -> bool:
    """Whether any pattern fits any name; none at all: whatever it is."""
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _check(tenant: TenantRecord, project: str) -> None:
    """Raises Forbidden."""
    if tenant.blocked:
        message = f"The tenant '{tenant.tenant_id}' of this API key is blocked: {tenant.blocked}."
        raise Forbidden(message, code="tenant_blocked")
    found = tenant.projects.get(project)
    if found is not None and found.blocked:
        message = f"The project '{project}' of this API key is blocked: {found.blocked}."
        raise Forbidden(message, code="project_blocked")
