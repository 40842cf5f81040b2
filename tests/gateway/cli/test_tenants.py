"""Tenants, prices and house rules from the command line, straight on the store."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.key_options import expires_unix_s
from models.home import Home
from models.store.client import connect
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys
from models.store.tenants import Tenancy, read_tenancy
from tests.gateway.cli.conftest import Cli


@pytest.fixture
def store(home: Home) -> Iterator[EmbeddedRedis]:
    """Runs all the while; the commands find it."""
    with EmbeddedRedis(home) as server:
        yield server


def known(store: EmbeddedRedis) -> Tenancy:
    with connect(store.url) as client:
        return read_tenancy(client, Keys())


def done(cli: Cli, *arguments: str) -> str:
    said = cli(*arguments)
    assert said.status == 0, said.err
    return said.out


class TestTenants:
    def test_made_changed_listed_shown_and_deleted(self, cli: Cli, store: EmbeddedRedis) -> None:
        limits = ("--limit", "requests=100/1m", "--limit", "money=25/month@80%")
        assert "keys create NAME --tenant acme" in done(cli, "tenants", "create", "acme", "--name", "Acme", *limits)
        done(cli, "tenants", "set", "acme", "--limit", "requests=200/1m", "--weight", "2", "--share", "0.25")
        done(cli, "tenants", "set", "acme", "--no-limit", "money/month", "--max-body", "1MiB", "--model", "org/*")
        listed = done(cli, "tenants", "list")
        assert "requests=200/1m" in listed
        assert "money" not in listed
        assert "default" in listed, "it is there without being made"
        shown = cli("tenants", "show", "acme", "--json").json
        assert (shown["weight"], shown["guaranteed_share"], shown["models"]) == (2.0, 0.25, ["org/*"])
        assert shown["caps"]["max_body_bytes"] == 1 << 20
        done(cli, "tenants", "set", "acme", "--max-body", "none", "--model", "all")
        acme = known(store).tenants["acme"]
        assert (acme.caps.max_body_bytes, acme.models) == (None, ())
        assert "weight            2" in done(cli, "tenants", "show", "acme")
        done(cli, "tenants", "delete", "acme")
        assert known(store).tenants == {}

    def test_projects_and_blocks(self, cli: Cli, store: EmbeddedRedis) -> None:
        done(cli, "tenants", "create", "acme")
        done(cli, "tenants", "project", "create", "acme", "web", "--limit", "tokens=1M/day for org/*")
        done(cli, "tenants", "project", "set", "acme", "web", "--limit", "concurrent=4")
        done(cli, "tenants", "project", "set", "acme", "web", "--no-limit", "tokens/day for org/*")
        assert "project           web: concurrent=4" in done(cli, "tenants", "show", "acme")
        done(cli, "tenants", "project", "block", "acme", "web", "--reason", "a loop")
        done(cli, "tenants", "block", "acme", "--reason", "not paid")
        acme = known(store).tenants["acme"]
        assert (acme.blocked, acme.projects["web"].blocked) == ("not paid", "a loop")
        done(cli, "tenants", "project", "unblock", "acme", "web")
        done(cli, "tenants", "unblock", "acme")
        done(cli, "tenants", "project", "delete", "acme", "web")
        acme = known(store).tenants["acme"]
        assert (acme.blocked, acme.projects) == ("", {})

    @pytest.mark.parametrize(
        ("arguments", "status", "code"),
        [
            (("create", "a b"), 2, "invalid_request"),
            (("create", "acme", "--limit", "requests=1"), 2, "usage"),
            (("create", "acme", "--max-body", "huge"), 2, "usage"),
            (("create", "acme", "--share", "2"), 2, "invalid_request"),
            (("set", "nobody", "--weight", "2"), 1, "tenant_not_found"),
            (("set", "default"), 2, "usage"),
            (("show", "nobody"), 1, "tenant_not_found"),
            (("set", "default", "--no-limit", "requests/1m"), 2, "usage"),
            (("project", "set", "default", "web"), 1, "project_not_found"),
        ],
    )
    def test_what_is_refused(
        self, cli: Cli, store: EmbeddedRedis, arguments: tuple[str, ...], status: int, code: str
    ) -> None:
        said = cli("tenants", *arguments, "--json")
        assert (said.status, said.error["code"]) == (status, code)
        assert known(store).version == 0

    def test_a_dry_run_changes_nothing(self, cli: Cli, store: EmbeddedRedis) -> None:
        assert "only tried" in done(cli, "tenants", "create", "acme", "--dry-run")
        assert cli("tenants", "create", "acme", "--dry-run", "--json").json["dry_run"] is True
        assert cli("tenants", "create", "a b", "--dry-run").status == 2, "it is checked"
        assert known(store).version == 0


class TestFiles:
    def test_applied_shown_and_read_back(self, cli: Cli, store: EmbeddedRedis, tmp_path: Path) -> None:
        file = tmp_path / "tenants.yaml"
        file.write_text(
            "house: {default_price_list: gold, webhooks: [{url: https://example.com/hook}]}\n"
            "prices:\n  gold:\n    - {model: org/*, input_token: 2.50/1M}\n"
            "tenants:\n  acme:\n    limits: [requests=100/1m, tokens=1M/day:soft@50%]\n    projects: {web: {}}\n"
        )
        tried = done(cli, "tenants", "apply", str(file), "--dry-run")
        assert "tenants.acme.limits" in tried
        assert known(store).version == 0
        applied = cli("tenants", "apply", str(file), "--json").json
        assert applied["new_secrets"]["https://example.com/hook"].startswith("whsec_")
        assert "Nothing changes" in cli("tenants", "apply", str(file)).err
        exported = done(cli, "tenants", "export")
        assert "whsec_" not in exported
        file.write_text(exported)
        assert cli("tenants", "apply", str(file), "--prune", "--json").json["differences"] == []
        file.write_text(exported.replace("requests=100/1m", "requests=300/1m"))
        said = done(cli, "tenants", "apply", str(file))
        assert "requests=300/1m" in said

    def test_everything_that_is_wrong_is_named_by_line_and_field(self, cli: Cli, tmp_path: Path) -> None:
        file = tmp_path / "tenants.yaml"
        file.write_text("house: {currency: usd}\ntenants:\n  acme:\n    limits: [requests=1]\n    wieght: 3\n")
        said = cli("tenants", "apply", str(file), "--json")
        assert (said.status, said.error["code"]) == (2, "invalid_file")
        found = [(one["field"], one["line"]) for one in said.error["problems"]]
        assert found == [("house.currency", 1), ("tenants.acme.limits[0]", 4), ("tenants.acme.wieght", 5)]
        assert "did you mean weight?" in cli("tenants", "apply", str(file)).err

    def test_what_only_the_store_can_say_is_named_by_its_field(
        self, cli: Cli, store: EmbeddedRedis, tmp_path: Path
    ) -> None:
        file = tmp_path / "tenants.yaml"
        file.write_text("tenants: {acme: {price_list: gold}}\n")
        said = cli("tenants", "apply", str(file), "--json")
        assert (said.status, said.error["field"]) == (2, "tenants.acme.price_list")
        assert "tenants.acme.price_list: there is no price list 'gold'" in cli("tenants", "apply", str(file)).err
        file.write_text("prices: {gold: [{model: '*', request: 1}, {model: org/x, request: 2}]}\n")
        assert cli("tenants", "apply", str(file), "--json").error["field"] == "prices.gold.lines[1].model"


class TestPrices:
    def test_set_shown_and_deleted(self, cli: Cli, store: EmbeddedRedis) -> None:
        said = done(cli, "prices", "set", "gold", "org/*", "--input", "2.50/1M", "--gpu-second", "3.60/1h")
        assert said.strip() == "org/* in gold: input token 0.0000025, gpu second 0.001 USD"
        done(cli, "prices", "set", "gold", "org/big", "--request", "0.01")
        done(cli, "prices", "set", "gold", "org/*", "--output", "10/1M")
        lines = known(store).house.price_lists["gold"].lines
        assert [line.model for line in lines] == ["org/big", "org/*"], "an exact id counts before a pattern"
        assert str(lines[1].input_token * 10**6) == "2.5000000", "what was not named stays"
        assert "0.00001" in done(cli, "prices", "show", "gold")
        assert cli("prices", "list", "--json").json["data"][0] == {
            "name": "gold", "lines": 2, "default": True, "tenants": [],
        }  # fmt: skip
        done(cli, "prices", "delete", "gold", "org/big")
        assert cli("prices", "delete", "gold", "org/big", "--json").error["code"] == "price_not_found"
        assert cli("prices", "delete", "gold", "--json").error["code"] == "price_list_in_use"
        done(cli, "prices", "set", "tin", "*", "--request", "1", "--default")
        done(cli, "prices", "delete", "gold")
        assert set(known(store).house.price_lists) == {"tin"}

    def test_a_line_goes_before_what_fits_all_of_its_models(self, cli: Cli, store: EmbeddedRedis) -> None:
        for model in ("*", "org/*", "org/big-*", "other/*", "org/big-1"):
            done(cli, "prices", "set", "gold", model, "--request", "1")
        lines = known(store).house.price_lists["gold"].lines
        assert [line.model for line in lines] == ["org/big-1", "org/big-*", "org/*", "other/*", "*"]

    def test_a_small_price_is_said_in_full(self, cli: Cli, store: EmbeddedRedis) -> None:
        assert "input token 0.00000015 USD" in done(cli, "prices", "set", "gold", "*", "--input", "0.15/1M")

    @pytest.mark.parametrize("arguments", [(), ("--input", "cheap"), ("--request", "-1")])
    def test_what_is_refused(self, cli: Cli, store: EmbeddedRedis, arguments: tuple[str, ...]) -> None:
        said = cli("prices", "set", "gold", "*", *arguments, "--json")
        assert (said.status, said.error["code"]) == (2, "usage")


class TestHouse:
    def test_rules(self, cli: Cli, store: EmbeddedRedis) -> None:
        done(
            cli, "house", "set", "--model-limit", "concurrent=64 for org/*", "--cool-down", "50/10s:1m",
            "--trusted-proxy", "10.0.0.0/8", "--no-key-limit", "all", "--key-limit", "requests=5/1s",
        )  # fmt: skip
        house = known(store).house
        assert (house.cool_down.failures, house.cool_down.for_s, house.trusted_proxies) == (50, 60.0, ("10.0.0.0/8",))
        assert [rule.name for rule in house.key_limits] == ["requests/1s/*"]
        shown = done(cli, "house", "show")
        assert "50/10s:1m" in shown
        assert "concurrent=64 for org/*" in shown
        done(cli, "house", "set", "--cool-down", "off", "--trusted-proxy", "none", "--no-model-limit", "all")
        house = known(store).house
        assert (house.cool_down.failures, house.trusted_proxies, house.model_limits) == (0, (), ())

    def test_blocks(self, cli: Cli, store: EmbeddedRedis) -> None:
        done(cli, "house", "block", "192.0.2.7", "--reason", "miners", "--for", "1h")
        (block,) = known(store).house.blocks
        assert (block.what, block.reason) == ("192.0.2.7/32", "miners")
        assert block.until_unix_s == pytest.approx(block.since_unix_s + 3600, abs=60)
        assert "192.0.2.7/32 until" in done(cli, "house", "show")
        done(cli, "house", "unblock", "192.0.2.7")
        assert cli("house", "unblock", "192.0.2.7", "--json").error["code"] == "block_not_found"
        assert cli("house", "block", "nowhere", "--reason", "x").status == 2

    def test_webhooks_show_their_secret_once(self, cli: Cli, store: EmbeddedRedis) -> None:
        url = "https://example.com/hook"
        assert cli("house", "webhooks", "add", url, "--dry-run", "--json").json["secret"] is None
        secret = done(cli, "house", "webhooks", "add", url, "--event", "budget.*").strip()
        assert known(store).house.webhooks[0].secret == secret
        assert "its secret is as it was" in done(cli, "house", "webhooks", "add", url)
        for shown in (done(cli, "house", "webhooks", "list"), done(cli, "house", "show"), done(cli, "audit", "--json")):
            assert secret not in shown
        done(cli, "house", "webhooks", "remove", url)
        assert known(store).house.webhooks == ()

    def test_a_private_webhook_is_taken_only_when_it_is_meant(self, cli: Cli, store: EmbeddedRedis) -> None:
        said = cli("house", "webhooks", "add", "http://127.0.0.1:9/hook", "--json")
        assert (said.status, said.error["cure"]) == (2, "if it is meant: --private")
        done(cli, "house", "webhooks", "add", "http://127.0.0.1:9/hook", "--private")

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--starts", "me"),
            ("--idle", "caller"),
            ("--cool-down", "many"),
            ("--currency", "euro"),
            ("--prices", "none"),
            (),
        ],
    )
    def test_what_is_refused(self, cli: Cli, store: EmbeddedRedis, arguments: tuple[str, ...]) -> None:
        assert cli("house", "set", *arguments).status == 2
        assert known(store).version == 0


class TestKeysOfTenants:
    def test_a_key_with_everything(self, cli: Cli, store: EmbeddedRedis) -> None:
        done(cli, "tenants", "create", "acme")
        done(cli, "tenants", "project", "create", "acme", "web")
        made = cli(
            "keys", "create", "app", "--tenant", "acme", "--project", "web", "--model", "org/*", "--endpoint", "chat.*",
            "--limit", "requests=5/1m", "--expires", "30d", "--weight", "2", "--json",
        ).json  # fmt: skip
        assert (made["tenant"], made["project"], made["models"], made["weight"]) == ("acme", "web", ["org/*"], 2.0)
        assert made["expires_unix_s"] == pytest.approx(made["created_unix_s"] + 30 * 86_400, abs=60)
        changed = cli(
            "keys", "set", made["key_id"], "--expires", "never", "--model", "all", "--no-limit", "all", "--scope",
            "admin:read", "--name", "reader", "--json",
        ).json  # fmt: skip
        assert (changed["expires_unix_s"], changed["models"], changed["limits"]) == (None, [], [])
        assert (changed["scopes"], changed["name"], changed["weight"]) == (["admin:read"], "reader", 2.0)
        assert cli("keys", "list", "--tenant", "default", "--json").json["data"] == []

    def test_rotated(self, cli: Cli, store: EmbeddedRedis) -> None:
        first = cli("keys", "create", "app", "--json").json
        tried = cli("keys", "rotate", first["key_id"], "--dry-run", "--json").json
        assert ("key" in tried, len(known(store).keys)) == (False, 1)
        second = cli("keys", "rotate", first["key_id"], "--overlap", "2h", "--json").json
        assert (second["key_id"], second["key"] != first["key"]) == (first["key_id"], True)
        listed = cli("keys", "list", "--json").json["data"]
        assert [one["expires_unix_s"] is None for one in listed] == [False, True]
        assert "works until" in done(cli, "keys", "list")
        done(cli, "keys", "revoke", first["key_id"])
        assert done(cli, "keys", "list").count("revoked") == 2

    def test_what_is_refused(self, cli: Cli, store: EmbeddedRedis) -> None:
        for arguments, code in (
            (("--tenant", "nobody"), "tenant_not_found"),
            (("--expires", "yesterday"), "usage"),
            (("--expires", "2020-01-01"), "usage"),
            (("--expires", "0s"), "usage"),
            (("--endpoint", "chat"), "usage"),
        ):
            assert cli("keys", "create", "app", *arguments, "--json").error["code"] == code
        made = cli("keys", "create", "app", "--json").json
        assert cli("keys", "set", made["key_id"]).status == 2, "nothing to change is named"


def test_an_end_is_a_duration_or_a_day_that_is_still_used_up() -> None:
    from datetime import UTC, datetime

    now = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert expires_unix_s("never", now) is None
    assert expires_unix_s("30d", now) == now.timestamp() + 30 * 86_400
    assert expires_unix_s("2026-11-22", now) == datetime(2026, 11, 23, tzinfo=UTC).timestamp()
    assert expires_unix_s("2026-11-22T13:00", now) == now.timestamp() + 3600


def test_the_audit_log_names_the_user_of_this_machine(cli: Cli, store: EmbeddedRedis) -> None:
    done(cli, "tenants", "create", "acme", "--weight", "2")
    done(cli, "tenants", "set", "acme", "--weight", "3", "--limit", "requests=5/1m")
    last, first = cli("audit", "--json").json["data"]
    assert (last["by"], last["act"], first["before"]) == (f"cli:{getpass.getuser()}", "tenant.set", None)
    shown = done(cli, "audit", "--act", "tenant.set", "--since", "1h")
    assert "weight 2.0 -> 3.0" in shown
    assert "requests=5/1m" in shown
    assert "tenant_id acme, weight 2.0" in done(cli, "audit", "--act", "tenant.create"), "what is not said is left out"
    done(cli, "tenants", "set", "acme", "--max-prompt-tokens", "100")
    assert "caps.max_prompt_tokens null -> 100\n" in f"{done(cli, 'audit', '--limit', '1').rstrip()}\n"
    assert "Nothing has been done" in cli("audit", "--by", "key_*").err
