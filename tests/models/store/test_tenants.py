"""Changes of tenants, keys and house rules: all of one or nothing, in the order of the version, told to everybody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import redis

from models.store import house_edits, key_edits, tenant_edits
from models.store.api_keys import KeyRefused, build_key, decode_keys, find_key, hash_key
from models.store.audit import HIDDEN, Who, read_audit
from models.store.client import connect
from models.store.codec import encode
from models.store.errors import ChangedMeanwhile, NotThere, TenancyRefused
from models.store.key_edits import create_key, revoke_key, rotating
from models.store.keys import Keys
from models.store.limit_text import parse_limit
from models.store.tenancy import PriceLine, PriceList, TenantRecord, Webhook
from models.store.tenants import Edit, Place, Tenancy, change, decode_tenants, read_tenancy

NOW = 1_700_000_000.0
ANN = Who("cli:ann", "192.0.2.7", "req-1")


Work = Callable[[Tenancy], tuple[Sequence[Edit], Any]]


def _making(name: str) -> Edit:
    return Edit(Place.TENANT, name, TenantRecord(tenant_id=name), "tenant.create")


class Books:
    """An installation's tenancy, changed by ann."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.client, self.keys, self.now_s = client, keys, NOW

    @property
    def known(self) -> Tenancy:
        return read_tenancy(self.client, self.keys)

    def tenant(self, name: str, **fields: object) -> TenantRecord:
        return change(
            self.client,
            self.keys,
            ANN,
            self.now_s,
            lambda known: tenant_edits.creating(known, name, fields, self.now_s),
        )

    def set(self, name: str, **fields: object) -> TenantRecord:
        return change(self.client, self.keys, ANN, self.now_s, lambda known: tenant_edits.setting(known, name, fields))

    def house(self, **fields: object) -> None:
        change(self.client, self.keys, ANN, self.now_s, lambda known: house_edits.setting(known, fields))

    def do(self, work: Work) -> Any:
        return change(self.client, self.keys, ANN, self.now_s, work)

    def key(self, name: str, **settings: Any) -> str:
        return create_key(self.client, self.keys, name, ("inference",), self.now_s, who=ANN, **settings).text

    def log(self) -> bytes:
        """As it is stored."""
        entries: Any = self.client.xrange(self.keys.audit)
        return b"".join(fields[b"a"] for _, fields in entries)

    def acts(self) -> list[str]:
        return [f"{one.act} {one.what}" for one in read_audit(self.client, self.keys)]


@pytest.fixture
def books(client: redis.Redis, keys: Keys) -> Books:
    return Books(client, keys)


class TestChanging:
    def test_nothing_is_there_at_first(self, books: Books) -> None:
        assert (books.known.version, books.known.tenants, books.known.house.currency) == (0, {}, "USD")

    def test_each_change_has_a_version_and_a_word_in_the_audit_log(self, books: Books) -> None:
        books.tenant("acme", weight=2.0)
        books.set("acme", weight=3.0)
        assert books.known.version == 2
        assert books.known.tenants["acme"].weight == 3.0
        last, first = read_audit(books.client, books.keys)
        assert (last.act, last.what, last.by, last.address, last.request_id) == (
            "tenant.set", "acme", "cli:ann", "192.0.2.7", "req-1",
        )  # fmt: skip
        assert (last.before["weight"], last.after["weight"], last.at_unix_s) == (2.0, 3.0, NOW)
        assert (first.act, first.before) == ("tenant.create", None)

    def test_what_is_so_already_is_no_change(self, books: Books) -> None:
        books.tenant("acme")
        books.set("acme", weight=1.0)
        assert (books.known.version, len(books.acts())) == (1, 1)

    def test_it_is_announced_with_its_version(self, books: Books) -> None:
        with books.client.pubsub() as listening:
            listening.subscribe(books.keys.tenancy_channel, books.keys.api_keys_channel)
            for _ in range(2):
                listening.get_message(timeout=5)
            books.tenant("acme")
            told = listening.get_message(timeout=5)
            assert told is not None
            assert (told["channel"], told["data"]) == (books.keys.tenancy_channel.encode(), b"1")
            books.key("app")
            channels = {(listening.get_message(timeout=5) or {}).get("channel") for _ in range(2)}
            assert channels == {books.keys.tenancy_channel.encode(), books.keys.api_keys_channel.encode()}

    def test_a_version_that_is_over_is_refused(self, books: Books) -> None:
        books.tenant("acme")
        seen = books.known.version
        books.set("acme", weight=2.0)
        with pytest.raises(ChangedMeanwhile):
            change(
                books.client, books.keys, ANN, NOW,
                lambda known: tenant_edits.setting(known, "acme", {"weight": 5.0}), version=seen,
            )  # fmt: skip
        assert books.known.tenants["acme"].weight == 2.0

    def test_who_is_overtaken_works_it_out_again(self, books: Books) -> None:
        """Two administrators at once: both changes hold, as each was worked out on the other's."""
        books.tenant("acme")
        overtaken = iter([True])

        def work(known: Tenancy) -> tuple[Sequence[Edit], TenantRecord]:
            edits = tenant_edits.setting(known, "acme", {"weight": 7.0})
            if next(overtaken, False):
                books.set("acme", priority=3)
            return edits

        change(books.client, books.keys, ANN, NOW, work)
        acme = books.known.tenants["acme"]
        assert (acme.weight, acme.priority) == (7.0, 3)

    def test_what_a_change_leans_on_stays_as_it_was(self, books: Books) -> None:
        """A tenant is deleted while a key of it is made: a key of nobody would have nobody's limits."""
        books.tenant("acme", limits=(parse_limit("requests=1/1m"),))
        overtaken = iter([True])

        def work(known: Tenancy) -> tuple[Sequence[Edit], Any]:
            edits = key_edits.adding(known, build_key("app", ("inference",), NOW, tenant="acme"))
            if next(overtaken, False):
                change(books.client, books.keys, ANN, NOW, lambda now: tenant_edits.deleting(now, "acme", ()))
            return edits

        with pytest.raises(TenancyRefused, match="there is no tenant 'acme'"):
            change(books.client, books.keys, ANN, NOW, work)
        assert not books.known.keys

    def test_who_is_always_overtaken_is_told(self, books: Books) -> None:
        books.tenant("acme")
        count = iter(range(1000))

        def work(known: Tenancy) -> tuple[Sequence[Edit], TenantRecord]:
            edits = tenant_edits.setting(known, "acme", {"weight": 7.0})
            books.set("acme", priority=next(count) + 1)
            return edits

        with pytest.raises(ChangedMeanwhile):
            change(books.client, books.keys, ANN, NOW, work)
        assert books.known.tenants["acme"].weight == 1.0

    def test_of_several_edits_all_are_written_or_none(self, books: Books) -> None:
        """The second of two replaces what is not there any more: then the first is not written either."""

        def work(_: Tenancy) -> tuple[Sequence[Edit], None]:
            if "b" not in books.known.tenants:
                books.tenant("b", weight=9.0)
                return [_making("a"), _making("b")], None
            return [], None

        change(books.client, books.keys, ANN, NOW, work)
        assert set(books.known.tenants) == {"b"}
        assert books.acts() == ["tenant.create b"]

    def test_many_at_once_lose_nothing(self, url: str, books: Books) -> None:
        books.tenant("acme")

        def add(name: str) -> None:
            with connect(url) as client:
                for number in range(5):
                    change(
                        client, books.keys, ANN, NOW,
                        partial(tenant_edits.project_creating, tenant_id="acme", name=f"{name}{number}", fields={}),
                    )  # fmt: skip

        threads = [threading.Thread(target=add, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(books.known.tenants["acme"].projects) == 15
        assert books.known.version == 16

    def test_a_tenant_that_cannot_be_read_stays_as_it_was(self, books: Books) -> None:
        acme = books.tenant("acme")
        raw = {b"acme": b"{broken", b"new": b"[]"}
        assert decode_tenants(raw, {"acme": acme}) == {"acme": acme}


class TestTenants:
    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"weight": 0.0}, "weight"),
            ({"weight": float("nan")}, "weight"),
            ({"guaranteed_share": 1.5}, "guaranteed_share"),
            ({"price_list": "gold"}, "price_list"),
            ({"priority": 5000}, "priority"),
            ({"models": ("a b",)}, "models"),
            ({"blocked": "x\n"}, "blocked"),
            ({"limits": (parse_limit("requests=1/1m"), parse_limit("requests=2/1m"))}, "limits[1]"),
        ],
    )
    def test_what_is_wrong_is_named(self, books: Books, fields: dict[str, object], field: str) -> None:
        with pytest.raises(TenancyRefused) as caught:
            books.tenant("acme", **fields)
        assert caught.value.field == field
        assert books.known.version == 0

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "a:b", "x" * 64, "ä"])
    def test_names_fit_into_keys_and_paths(self, books: Books, name: str) -> None:
        with pytest.raises(TenancyRefused, match="start with a letter or digit"):
            books.tenant(name)

    def test_twice_is_refused(self, books: Books) -> None:
        books.tenant("acme")
        with pytest.raises(TenancyRefused, match="is there already"):
            books.tenant("acme")

    def test_the_default_one_is_there_without_being_made(self, books: Books) -> None:
        assert books.set("default", weight=2.0).weight == 2.0
        with pytest.raises(NotThere, match="no tenant 'nobody'"):
            books.set("nobody", weight=2.0)

    def test_one_with_keys_that_work_stays(self, books: Books) -> None:
        books.tenant("acme")
        text = books.key("app", tenant="acme")

        def delete() -> None:
            change(
                books.client, books.keys, ANN, NOW,
                lambda known: tenant_edits.deleting(
                    known, "acme", [key for key in known.keys.values() if key.revoked_unix_s is None]
                ),
            )  # fmt: skip

        with pytest.raises(TenancyRefused, match="revoke them first") as caught:
            delete()
        assert caught.value.code == "keys_in_use"
        revoke_key(books.client, books.keys, text, NOW)
        delete()
        assert books.known.tenants == {}

    def test_projects_have_their_own_word_in_the_log(self, books: Books) -> None:
        books.tenant("acme")
        limits = {"limits": (parse_limit("requests=1/1s"),)}
        change(
            books.client,
            books.keys,
            ANN,
            NOW,
            lambda known: tenant_edits.project_creating(known, "acme", "web", limits),
        )
        (act, _) = read_audit(books.client, books.keys)
        assert (act.act, act.what, act.before, act.after["name"]) == ("project.create", "acme/web", None, "web")
        change(
            books.client, books.keys, ANN, NOW, lambda known: tenant_edits.project_deleting(known, "acme", "web", ())
        )
        assert books.known.tenants["acme"].projects == {}


class TestKeys:
    def test_a_key_is_of_a_tenant_that_there_is(self, books: Books) -> None:
        with pytest.raises(TenancyRefused, match="no tenant 'acme'"):
            books.key("app", tenant="acme")
        books.tenant("acme")
        with pytest.raises(TenancyRefused, match="no project 'web'"):
            books.key("app", tenant="acme", project="web")
        books.key("app", tenant="acme")
        assert [key.tenant for key in books.known.keys.values()] == ["acme"]

    def test_the_audit_log_knows_no_key_by_its_text_or_hash(self, books: Books) -> None:
        text = books.key("app")
        revoke_key(books.client, books.keys, text, NOW + 1, who=ANN)
        assert text.encode() not in books.log()
        assert hash_key(text).encode() not in books.log()
        assert [act.split()[0] for act in books.acts()] == ["key.revoke", "key.create"]

    def rotate(self, books: Books, which: str, overlap_s: float = 100.0) -> str:
        created = change(
            books.client, books.keys, ANN, books.now_s, lambda known: rotating(known, which, books.now_s, overlap_s)
        )
        return created.text

    def test_a_rotated_key_is_one_key_with_two_texts(self, books: Books) -> None:
        limits = (parse_limit("requests=5/1m"),)
        first = books.key("app", limits=limits)
        books.now_s += 10
        second = self.rotate(books, first)
        stored = books.known.keys
        old, new = stored[hash_key(first)], stored[hash_key(second)]
        assert old.key_id == new.key_id
        assert (old.expires_unix_s, new.expires_unix_s) == (NOW + 110, None)
        assert (new.limits, new.created_unix_s, new.prefix) == (limits, NOW + 10, second[:9])
        assert list(find_key(stored, old.key_id)) == [hash_key(second), hash_key(first)]

    def test_rotated_again_the_first_text_ends_when_it_would_have(self, books: Books) -> None:
        first = books.key("app")
        second = self.rotate(books, first, 50.0)
        books.now_s += 20
        third = self.rotate(books, first, 100.0)
        ends = [books.known.keys[hash_key(text)].expires_unix_s for text in (first, second, third)]
        assert ends == [NOW + 50, NOW + 120, None]

    def test_what_is_set_is_set_for_both_texts(self, books: Books) -> None:
        first = books.key("app")
        self.rotate(books, first, 50.0)
        change(
            books.client, books.keys, ANN, NOW,
            lambda known: key_edits.setting(known, first, {"weight": 4.0, "expires_unix_s": NOW + 500}),
        )  # fmt: skip
        newest, oldest = find_key(books.known.keys, first).values()
        assert (newest.weight, oldest.weight) == (4.0, 4.0)
        assert (newest.expires_unix_s, oldest.expires_unix_s) == (NOW + 500, NOW + 50)

    def test_revoked_no_text_works(self, books: Books) -> None:
        first = books.key("app")
        second = self.rotate(books, first)
        revoke_key(books.client, books.keys, second, NOW + 1)
        assert {key.revoked_unix_s for key in books.known.keys.values()} == {NOW + 1}
        with pytest.raises(KeyRefused, match="works no more; make another"):
            self.rotate(books, first)

    @pytest.mark.parametrize(
        ("fields", "field"),
        [({"name": ""}, "name"), ({"scopes": ("root",)}, "scopes"), ({"endpoints": ("",)}, "endpoints")],
    )
    def test_what_cannot_be_set(self, books: Books, fields: dict[str, object], field: str) -> None:
        text = books.key("app")
        with pytest.raises(TenancyRefused) as caught:
            change(books.client, books.keys, ANN, NOW, lambda known: key_edits.setting(known, text, fields))
        assert caught.value.field == field

    def test_keys_of_earlier_versions_are_as_they_were(self, books: Books) -> None:
        old = {"key_id": "key_1", "name": "n", "scopes": ["admin"], "prefix": "rh-x", "created_unix_s": 1.0}
        books.client.hset(books.keys.api_keys, "ab" * 32, encode(old))
        (record,) = decode_keys(books.client.hgetall(books.keys.api_keys)).values()
        assert (record.tenant, record.project, record.expires_unix_s, record.limits) == ("default", "default", None, ())


class TestHouse:
    def test_other_prices_have_another_version(self, books: Books) -> None:
        gold = PriceList(name="gold", lines=(PriceLine(model="*", request=Decimal("0.1")),))
        change(books.client, books.keys, ANN, NOW, lambda known: house_edits.price_setting(known, gold))
        assert (books.known.house.version, books.known.house.default_price_list) == (1, "gold")
        books.house(trusted_proxies=("10.0.0.0/8",))
        assert books.known.house.version == 1
        books.house(currency="EUR")
        assert books.known.house.version == 2

    def test_a_list_in_use_stays(self, books: Books) -> None:
        for name in ("gold", "tin"):
            prices = PriceList(name=name)
            books.do(partial(house_edits.price_setting, prices=prices))
        books.tenant("acme", price_list="tin")
        for name, user in (("gold", "the house, as its default"), ("tin", "the tenant acme")):
            with pytest.raises(TenancyRefused, match=f"is used by {user}"):
                books.do(partial(house_edits.price_deleting, name=name))

    def test_the_log_shows_no_secret(self, books: Books) -> None:
        hook = Webhook(url="https://example.com", secret=house_edits.new_secret(lambda size: b"x" * size))
        change(books.client, books.keys, ANN, NOW, lambda known: house_edits.webhook_adding(known, hook))
        assert books.known.house.webhooks == (hook,)
        (act,) = read_audit(books.client, books.keys)
        assert act.after["webhooks"][0]["secret"] == HIDDEN
        assert hook.secret.encode() not in books.log()

    def test_a_block_has_one_form_and_an_end(self, books: Books) -> None:
        def block(what: str, until_s: float | None = None) -> None:
            change(
                books.client, books.keys, ANN, books.now_s,
                lambda known: house_edits.block_adding(known, what, "miners", books.now_s, until_s),
            )  # fmt: skip

        block("192.0.2.9/24", NOW + 10)
        block("192.0.2.0/24", NOW + 20)
        assert [(one.what, one.until_unix_s) for one in books.known.house.blocks] == [("192.0.2.0/24", NOW + 20)]
        books.now_s += 30
        block("2001:db8::1")
        assert [one.what for one in books.known.house.blocks] == ["2001:db8::1/128"], "what is over is cleared away"
        text = books.key("app")
        key_id = books.known.keys[hash_key(text)].key_id
        block(key_id)
        change(books.client, books.keys, ANN, NOW, lambda known: house_edits.block_removing(known, key_id))
        with pytest.raises(TenancyRefused, match="neither an address or network"):
            block("nowhere")
        with pytest.raises(TenancyRefused, match="over already"):
            block("10.0.0.1", NOW)

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"currency": "euro"}, "currency"),
            ({"default_price_list": "gold"}, "default_price_list"),
            ({"trusted_proxies": ("10.0.0.0/8", "me")}, "trusted_proxies[1]"),
            ({"idle_charged_to": "caller"}, "idle_charged_to"),
            ({"webhooks": (Webhook(url="ftp://x", secret="s" * 30),)}, "webhooks[0].url"),
            ({"webhooks": (Webhook(url="https://u:p@x", secret="s" * 30),)}, "webhooks[0].url"),
            ({"webhooks": (Webhook(url="https://x", secret="short"),)}, "webhooks[0].secret"),
        ],
    )
    def test_what_is_wrong_is_named(self, books: Books, fields: dict[str, object], field: str) -> None:
        with pytest.raises(TenancyRefused) as caught:
            books.house(**fields)
        assert caught.value.field == field

    @pytest.mark.parametrize(
        ("models", "counts"),
        [
            (("*", "org/x"), False),
            (("org/*", "other/*", "org/b*"), False),
            (("org/x", "org/*", "*"), True),
            (("*/x", "org/*"), True),
        ],
    )
    def test_a_price_that_would_never_count_is_refused(
        self, books: Books, models: tuple[str, ...], counts: bool
    ) -> None:
        prices = PriceList(name="gold", lines=tuple(PriceLine(model=model) for model in models))
        if counts:
            books.do(partial(house_edits.price_setting, prices=prices))
            return
        with pytest.raises(TenancyRefused, match="would never count") as caught:
            books.do(partial(house_edits.price_setting, prices=prices))
        assert caught.value.field == f"lines[{len(models) - 1}].model"

    def test_prices_are_in_bounds(self, books: Books) -> None:
        for price in ("-1", "NaN", "1000001", "0.0000000000000000001"):
            prices = PriceList(name="gold", lines=(PriceLine(model="*", request=Decimal(price)),))
            with pytest.raises(TenancyRefused) as caught:
                books.do(partial(house_edits.price_setting, prices=prices))
            assert caught.value.field == "lines[0].request"


def test_the_audit_log_is_read_by_who_what_and_when(books: Books) -> None:
    for number in range(600):
        books.now_s = NOW + number
        books.set("default", priority=number % 2 + 1)
    books.tenant("acme")
    read = read_audit
    assert len(read(books.client, books.keys, limit=1000)) == 601
    assert [one.what for one in read(books.client, books.keys, act="tenant.create")] == ["acme"]
    assert len(read(books.client, books.keys, since_unix_s=NOW + 590, limit=1000)) == 11
    assert len(read(books.client, books.keys, until_unix_s=NOW + 9, limit=1000)) == 10
    assert read(books.client, books.keys, by="key_*") == []
    assert len({one.id for one in read(books.client, books.keys, limit=1000)}) == 601


def test_a_key_that_is_not_stored_has_all_of_its_settings() -> None:
    made = build_key("app", ("inference",), NOW, tenant="acme", weight=2.0)
    assert (made.record.tenant, made.record.weight) == ("acme", 2.0)
