"""A document of tenants, prices and house rules: what has to change, what is kept, what is refused with its path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.tenancy_file import exported
from gateway.tenancy_documents import Applied
from gateway.tenancy_file import TenancyFile, applying
from models.store.errors import TenancyRefused
from models.store.limit_text import parse_limit
from models.store.records import KeyRecord
from models.store.tenancy import Block, HouseRecord, PriceList, ProjectRecord, TenantRecord, Webhook
from models.store.tenants import Place, Tenancy

NOW = 1000.0
SECRET = "whsec_" + "x" * 40


def key(**fields: Any) -> KeyRecord:
    return KeyRecord(key_id="key_1", name="n", scopes=(), prefix="", created_unix_s=0.0, **fields)


def known(*tenants: TenantRecord, house: HouseRecord | None = None, **keys: KeyRecord) -> Tenancy:
    return Tenancy(5, house or HouseRecord(), {one.tenant_id: one for one in tenants}, keys)


def applied(before: Tenancy, document: Any, *, prune: bool = False) -> tuple[Tenancy, Applied]:
    """As it is afterwards."""
    edits, found = applying(before, TenancyFile.model_validate(document), NOW, prune=prune)
    house, tenants = before.house, dict(before.tenants)
    for edit in edits:
        if edit.place is Place.HOUSE:
            assert isinstance(edit.after, HouseRecord)
            house = edit.after
        elif edit.after is None:
            del tenants[edit.name]
        else:
            assert isinstance(edit.after, TenantRecord)
            tenants[edit.name] = edit.after
    return Tenancy(6, house, tenants, before.keys), found


def shown(found: Applied) -> list[tuple[str, str | None, str | None]]:
    return [(one.path, one.before, one.after) for one in found.differences]


def test_a_tenant_is_as_it_is_written() -> None:
    before = known(TenantRecord(tenant_id="acme", weight=5.0, limits=(parse_limit("requests=1/1m"),), name="Acme"))
    after, found = applied(before, {"tenants": {"acme": {"limits": ["requests=2/1m", "concurrent=4"]}}})
    acme = after.tenants["acme"]
    assert (acme.weight, acme.name, len(acme.limits)) == (1.0, "", 2), "what is left out is as usual"
    assert shown(found) == [
        ("tenants.acme.limits", "requests=1/1m", "requests=2/1m, concurrent=4"),
        ("tenants.acme.name", "Acme", None),
        ("tenants.acme.weight", "5", "1"),
    ]


def test_a_block_is_an_act_of_the_moment() -> None:
    web = ProjectRecord(name="web", blocked="a loop")
    before = known(TenantRecord(tenant_id="acme", blocked="not paid", projects={"web": web}))
    after, _ = applied(before, {"tenants": {"acme": {"weight": 2, "projects": {"web": {"limits": ["concurrent=1"]}}}}})
    acme = after.tenants["acme"]
    assert (acme.blocked, acme.projects["web"].blocked, acme.weight) == ("not paid", "a loop", 2.0)
    after, _ = applied(after, {"tenants": {"acme": {"blocked": ""}}})
    assert after.tenants["acme"].blocked == ""


def test_of_the_house_what_is_left_out_stays() -> None:
    house = HouseRecord(currency="EUR", trusted_proxies=("10.0.0.0/8",))
    after, found = applied(known(house=house), {"house": {"starts_charged_to": "owner"}})
    assert (after.house.currency, after.house.trusted_proxies) == ("EUR", ("10.0.0.0/8",))
    assert shown(found) == [("house.starts_charged_to", "caller", "owner")]


def test_others_stay_unless_it_prunes() -> None:
    acme = TenantRecord(tenant_id="acme", projects={"old": ProjectRecord(name="old")})
    before = known(acme, TenantRecord(tenant_id="gone"), house=HouseRecord(price_lists={"old": PriceList(name="old")}))
    document = {"tenants": {"acme": {"projects": {"new": {}}}}, "prices": {"new": []}}
    after, _ = applied(before, document)
    assert (set(after.tenants), set(after.tenants["acme"].projects)) == ({"acme", "gone"}, {"old", "new"})
    assert set(after.house.price_lists) == {"old", "new"}
    after, _ = applied(before, document, prune=True)
    assert (set(after.tenants), set(after.tenants["acme"].projects)) == ({"acme"}, {"new"})
    assert set(after.house.price_lists) == {"new"}
    after, _ = applied(before, {"house": {}}, prune=True)
    assert set(after.tenants) == {"acme", "gone"}, "of tenants nothing is said"


def test_a_webhook_keeps_its_secret_and_a_new_one_gets_one() -> None:
    hook = Webhook(url="https://a", secret=SECRET)
    after, found = applied(known(house=HouseRecord(webhooks=(hook,))), {"house": {"webhooks": [{"url": "https://a"}]}})
    assert (after.house.webhooks, found.new_secrets, found.differences) == ((hook,), {}, ())
    after, found = applied(after, {"house": {"webhooks": [{"url": "https://b", "events": ["budget.*"]}]}})
    assert after.house.webhooks[0].secret == found.new_secrets["https://b"]
    assert SECRET not in str(found.differences)
    assert found.new_secrets["https://b"] not in str(found.differences)


def test_a_block_that_is_there_began_when_it_did() -> None:
    block = Block(what="192.0.2.7/32", reason="miners", since_unix_s=7.0)
    document = {"house": {"blocks": [{"what": "192.0.2.7", "reason": "miners"}]}}
    after, found = applied(known(house=HouseRecord(blocks=(block,))), document)
    assert (after.house.blocks, found.differences) == ((block,), ())


def test_other_prices_have_another_version() -> None:
    document = {"prices": {"gold": [{"model": "*", "request": "0.1"}]}}
    after, _ = applied(known(), document)
    assert after.house.version == 1
    again, found = applied(after, document)
    assert (again.house.version, found.differences) == (1, ())


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"tenants": {"a b": {}}}, "tenants.a b"),
        ({"tenants": {"acme": {"price_list": "gold"}}}, "tenants.acme.price_list"),
        ({"tenants": {"acme": {"projects": {"x/y": {}}}}}, "tenants.acme.projects.x/y.name"),
        ({"tenants": {"acme": {"limits": ["requests=1/1m"] * 2}}}, "tenants.acme.limits[1]"),
        ({"house": {"default_price_list": "gold"}}, "house.default_price_list"),
        ({"house": {"webhooks": [{"url": "https://a", "tenant": "nobody"}]}}, "house.webhooks[0].tenant"),
        ({"house": {"trusted_proxies": ["me"]}}, "house.trusted_proxies[0]"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(document: Any, field: str) -> None:
    with pytest.raises(TenancyRefused) as caught:
        applied(known(), document)
    assert caught.value.field == field


def test_keys_that_work_keep_their_tenant_and_project() -> None:
    acme = TenantRecord(tenant_id="acme", projects={"web": ProjectRecord(name="web")})
    documents: tuple[Any, ...] = ({"tenants": {}}, {"tenants": {"acme": {}}})
    for gone in documents:
        with pytest.raises(TenancyRefused, match="key_1") as caught:
            applied(known(acme, digest=key(tenant="acme", project="web")), gone, prune=True)
        assert caught.value.code == "keys_in_use"
        ended = key(tenant="acme", project="web", revoked_unix_s=1.0)
        applied(known(acme, digest=ended), gone, prune=True)


weights = st.sampled_from([0.5, 1, 2])
limit_lists = st.lists(st.sampled_from(["requests=5/1m", "concurrent=2", "money=3/day@80%"]), unique=True, max_size=3)
projects = st.dictionaries(
    st.sampled_from(["web", "jobs"]), st.fixed_dictionaries({}, optional={"limits": limit_lists})
)
tenants = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["", "Acme"]),
        "weight": weights,
        "limits": limit_lists,
        "projects": projects,
        "guaranteed_share": st.sampled_from([0, 0.25]),
        "caps": st.just({"max_body_bytes": "1MiB"}),
        "models": st.just(["org/*"]),
    },
)
documents = st.fixed_dictionaries(
    {"tenants": st.dictionaries(st.sampled_from("abc"), tenants)},
    optional={
        "house": st.fixed_dictionaries({}, optional={"key_limits": limit_lists, "currency": st.just("EUR")}),
        "prices": st.dictionaries(
            st.sampled_from("xy"), st.just([{"model": "*", "input_token": "0.15/1M", "cached_token": 0}])
        ),
    },
)


@given(documents, documents)
def test_once_applied_it_is_so_and_what_is_exported_changes_nothing(first: Any, second: Any) -> None:
    after, _ = applied(known(), first)
    after, _ = applied(after, second, prune=True)
    again, found = applied(after, second, prune=True)
    assert (found.differences, again.house, dict(again.tenants)) == ((), after.house, dict(after.tenants))
    back, found = applied(after, exported(after), prune=True)
    assert (found.differences, back.house) == ((), after.house)


@given(documents)
def test_a_difference_is_shown_exactly_where_something_changes(document: Any) -> None:
    before = known(TenantRecord(tenant_id="a", weight=2.0))
    after, found = applied(before, document)
    differs = (after.house, dict(after.tenants)) != (before.house, dict(before.tenants))
    assert bool(found.differences) is differs
