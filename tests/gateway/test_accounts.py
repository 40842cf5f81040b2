"""On whose account a request goes: which rules and prices hold for it, what it may call, and when that changes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.accounts import FREE, MOST_KNOWN, Accounts, card_price
from gateway.endpoints import ENDPOINTS
from gateway.errors import Forbidden, StoreUnavailable
from gateway.inquiry import Caller
from gateway.tenant_book import TenantBook
from models.store.limit_text import limit_text, parse_limit
from models.store.records import KeyRecord, ModelRoute
from models.store.tenancy import HouseRecord, PriceLine, PriceList, ProjectRecord, TenantRecord

CHAT = next(each for each in ENDPOINTS if each.name == "chat.completions")
SPEECH = next(each for each in ENDPOINTS if each.name == "audio.speech")
NO_LIMITS = HouseRecord(key_limits=())


def key(name: str = "k", **fields: Any) -> KeyRecord:
    return KeyRecord(
        key_id=f"key_{name}", name=name, scopes=("inference",), prefix="rh-", created_unix_s=0.0, **fields
    )  # fmt: skip


def route(name: str = "org/m", **fields: Any) -> ModelRoute:
    return ModelRoute(model_id=name, **fields)


def accounts(*tenants: TenantRecord, house: HouseRecord = NO_LIMITS) -> Accounts:
    book = TenantBook()
    book.offer(1, house, {tenant.tenant_id: tenant for tenant in tenants})
    return Accounts(book)


def limits(*texts: str) -> Any:
    return tuple(map(parse_limit, texts))


def test_a_caller_has_its_tenants_share_and_the_higher_priority() -> None:
    acme = TenantRecord(tenant_id="acme", weight=3.0, guaranteed_share=0.5, priority=2)
    found = accounts(acme).of(key(tenant="acme", project="web", weight=4.0, priority=1)).caller
    assert found == Caller(
        tenant="acme", name="k", weight=3.0, priority=2, key_id="key_k", project="web", share=0.5, key_weight=4.0
    )


def test_the_rules_of_all_four_places_hold() -> None:
    house = HouseRecord(key_limits=limits("requests=9/1m"), model_limits=limits("concurrent=64 for org/*"))
    web = ProjectRecord(name="web", limits=limits("tokens=5/day"))
    acme = TenantRecord(tenant_id="acme", limits=limits("money=25/month"), projects={"web": web})
    account = accounts(acme, house=house).of(key(tenant="acme", project="web", limits=limits("concurrent=2")))
    assert [(placed.place, limit_text(placed.rule)) for placed in account.rules("org/m")] == [
        ("key:key_k", "concurrent=2"),
        ("key:key_k", "requests=9/1m"),
        ("project:acme/web", "tokens=5/day"),
        ("tenant:acme", "money=25/month"),
        ("model:house", "concurrent=64 for org/*"),
    ]
    assert [placed.place for placed in account.rules("other")][-1] == "tenant:acme", "the house's is of other models"
    assert account.rules("org/m") is account.rules("org/m")


def test_what_a_key_has_of_its_own_stands_instead_of_what_all_have() -> None:
    """Else two amounts would be counted under one name."""
    house = HouseRecord(key_limits=limits("requests=9/1m", "tokens=9/1m"))
    account = accounts(house=house).of(key(limits=limits("requests=100/1m")))
    assert [limit_text(placed.rule) for placed in account.rules("m")] == ["requests=100/1m", "tokens=9/1m"]


def test_prices_are_the_tenants_then_the_houses_then_the_cards() -> None:
    def prices(name: str, *lines: tuple[str, str]) -> PriceList:
        return PriceList(name=name, lines=tuple(PriceLine(model=model, request=Decimal(p)) for model, p in lines))

    lists = {"gold": prices("gold", ("org/*", "1")), "tin": prices("tin", ("org/m", "2"), ("org/*", "3"))}
    house = msgspec.structs.replace(NO_LIMITS, price_lists=lists, default_price_list="tin")
    acme, plain = TenantRecord(tenant_id="acme", price_list="gold"), TenantRecord(tenant_id="plain")
    book = accounts(acme, plain, house=house)

    def cost(tenant: str, model: ModelRoute) -> Decimal:
        return book.of(key(tenant, tenant=tenant)).price(model).request

    assert [cost("acme", route("org/m")), cost("plain", route("org/m")), cost("plain", route("org/n"))] == [1, 2, 3]
    assert cost("plain", route("else", price={"request": "0.5"})) == Decimal("0.5")
    assert book.of(key(tenant="plain")).price(route("else")) is FREE
    assert book.of(key(tenant="plain")).price_list == "tin"


def test_a_list_that_is_gone_leaves_the_houses() -> None:
    gold = PriceList(name="gold", lines=(PriceLine(model="*", request=Decimal(1)),))
    house = msgspec.structs.replace(NO_LIMITS, price_lists={"gold": gold}, default_price_list="gold")
    account = accounts(TenantRecord(tenant_id="acme", price_list="lost"), house=house).of(key(tenant="acme"))
    assert account.price(route()).request == 1


def test_a_models_price_is_looked_up_again_when_its_route_is_another() -> None:
    account = accounts().of(key())
    assert account.price(route(price={"request": "1"})).request == 1
    assert account.price(route(price={"request": "2"})).request == 2
    assert card_price(route(price={"moon_second": "1"})) is None, "of a later version"
    assert card_price(route()) is None


class TestWhatItMayCall:
    def test_nothing_said_is_everything(self) -> None:
        account = accounts().of(key())
        account.check_model(route(), "org/m")
        account.check_endpoint(CHAT)

    def test_models_go_by_id_and_alias_alike_and_adapters_by_their_own_name(self) -> None:
        account = accounts().of(key(models=("org/*", "tuned-a")))
        there = route("org/m", aliases=("fast",), adapters=("tuned-a", "tuned-b"))
        for name in ("org/m", "fast", "tuned-a"):
            account.check_model(there, name)
        with pytest.raises(Forbidden) as caught:
            account.check_model(there, "tuned-b")
        assert (caught.value.code, caught.value.param) == ("model_not_allowed", "model")
        with pytest.raises(Forbidden):
            account.check_model(route("other"), "other")
        by_alias = accounts().of(key(models=("fast",)))
        by_alias.check_model(there, "org/m")

    def test_what_its_tenant_may_not_no_key_of_it_may(self) -> None:
        acme = TenantRecord(tenant_id="acme", models=("org/*",))
        account = accounts(acme).of(key(tenant="acme", models=("*",)))
        account.check_model(route("org/m"), "org/m")
        with pytest.raises(Forbidden):
            account.check_model(route("other"), "other")

    def test_an_alias_that_has_become_another_models_is_looked_at_again(self) -> None:
        account = accounts().of(key(models=("org/*",)))
        account.check_model(route("org/m", aliases=("fast",)), "fast")
        with pytest.raises(Forbidden):
            account.check_model(route("other", aliases=("fast",)), "fast")

    def test_endpoints_by_name_or_path(self) -> None:
        for pattern in ("chat.completions", "chat.*", "/v1/chat/*"):
            account = accounts().of(key(endpoints=(pattern,)))
            account.check_endpoint(CHAT)
            with pytest.raises(Forbidden) as caught:
                account.check_endpoint(SPEECH)
            assert caught.value.code == "endpoint_not_allowed"
            assert pattern in caught.value.message


class TestKeeping:
    def test_an_account_stays_while_nothing_of_it_changes(self) -> None:
        acme, other = TenantRecord(tenant_id="acme"), TenantRecord(tenant_id="other")
        known = accounts(acme, other)
        record = key(tenant="acme")
        first = known.of(record)
        assert known.of(record) is first
        known.book.offer(2, NO_LIMITS, {"acme": TenantRecord(tenant_id="acme"), "other": other})
        assert known.of(record) is first, "what was read again says the same"
        known.book.offer(3, NO_LIMITS, {"acme": acme, "other": TenantRecord(tenant_id="other", weight=2.0)})
        assert known.of(record) is first, "somebody else changed"

    def test_it_is_made_anew_with_its_tenant_or_the_house(self) -> None:
        known = accounts(TenantRecord(tenant_id="acme"))
        record = key(tenant="acme")
        first = known.of(record)
        known.book.offer(2, NO_LIMITS, {"acme": TenantRecord(tenant_id="acme", weight=2.0)})
        second = known.of(record)
        assert (second is first, second.caller.weight) == (False, 2.0)
        known.book.offer(3, HouseRecord(), dict(known.book.tenants))
        assert known.of(record).rules("m") != second.rules("m")

    def test_two_texts_of_a_key_are_two_accounts_in_one_place(self) -> None:
        known = accounts()
        one, other = key(limits=limits("concurrent=1")), key(limits=limits("concurrent=1"), expires_unix_s=9.0)
        assert known.of(one) is not known.of(other)
        assert known.of(one) is known.of(one)
        assert known.of(one).rules("m") == known.of(other).rules("m")

    def test_memory_is_bounded(self) -> None:
        known = accounts()
        for number in range(MOST_KNOWN + 5):
            known.of(key(str(number)))
        assert len(known._known) <= MOST_KNOWN

    def test_a_tenant_that_is_blocked_is_refused_until_it_is_not(self) -> None:
        known = accounts(TenantRecord(tenant_id="acme"))
        record = key(tenant="acme")
        known.of(record)
        known.book.offer(2, NO_LIMITS, {"acme": TenantRecord(tenant_id="acme", blocked="not paid")})
        for _ in range(2):
            with pytest.raises(Forbidden, match="blocked: not paid") as caught:
                known.of(record)
            assert caught.value.code == "tenant_blocked"
        known.book.offer(3, NO_LIMITS, {"acme": TenantRecord(tenant_id="acme")})
        known.of(record)

    def test_so_is_a_project(self) -> None:
        web = ProjectRecord(name="web", blocked="a loop")
        known = accounts(TenantRecord(tenant_id="acme", projects={"web": web}))
        with pytest.raises(Forbidden) as caught:
            known.of(key(tenant="acme", project="web"))
        assert caught.value.code == "project_blocked"
        known.of(key(tenant="acme"))

    def test_a_tenant_that_nobody_has_made_is_plain_and_told_of_once(self, caplog: pytest.LogCaptureFixture) -> None:
        known = accounts()
        assert known.of(key(tenant="ghost")).tenant == TenantRecord(tenant_id="ghost")
        known.of(key("other", tenant="ghost"))
        assert len(known._told) == 1

    def test_before_the_stores_word_nobody_is_let_in(self) -> None:
        known = Accounts(TenantBook(awaited=True))
        with pytest.raises(StoreUnavailable):
            known.of(key())
        known.book.offer(0, HouseRecord(), {})
        known.of(key())
        Accounts().of(key("alone"))

    def test_the_gateways_own_requests_are_on_the_account_of_whose_key_it_was(self) -> None:
        known = accounts(TenantRecord(tenant_id="acme", weight=2.0))
        account = known.of(key(tenant="acme"))
        assert known.of_caller(account.caller) is account
        unseen = known.of_caller(Caller("acme", key_id="key_new", project="web", key_weight=3.0))
        assert (unseen.caller.weight, unseen.caller.key_weight, unseen.key.key_id) == (2.0, 3.0, "key_new")

    def test_its_keys_limits_hold_for_them_however_many_have_called_since(self) -> None:
        known = accounts()
        limited = key(models=("org/*",), limits=(parse_limit("money=1/month"),))
        caller = known.of(limited).caller
        for number in range(MOST_KNOWN):
            known.of(key(f"other-{number}"))
        assert known.of_caller(caller).key == limited


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.floats(1, 3)), max_size=8))
def test_the_book_says_whether_anything_is_new(states: list[dict[str, float]]) -> None:
    book = TenantBook()
    before: dict[str, TenantRecord] | None = None
    for version, weights in enumerate(states):
        tenants = {name: TenantRecord(tenant_id=name, weight=weight) for name, weight in weights.items()}
        generation = book.generation
        assert book.offer(version, HouseRecord(), tenants) is (tenants != before)
        assert book.generation == generation + (tenants != before)
        if before is not None:
            assert all(book.tenants[name] == tenant for name, tenant in tenants.items())
        assert book.version == version
        before = tenants
