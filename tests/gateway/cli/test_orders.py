"""Commands that change something in a running service, and what it may refuse."""

from __future__ import annotations

import pytest

from gateway.plan_views import plan_document
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import FakeAdmin
from tests.gateway.test_http_packing import step


@pytest.mark.parametrize("verb", ["wake", "sleep", "stop"])
def test_an_order_waits_until_it_is_done(cli: Cli, admin: FakeAdmin, verb: str) -> None:
    done = cli("models", verb, "tiny-llama")
    assert done.status == 0
    assert admin.asked == [f"POST /admin/v1/models/tiny-llama/{verb}"]
    assert "('wait', 'true')" in done.out
    assert "an action" in done.out


def test_an_order_can_be_left_to_itself(cli: Cli, admin: FakeAdmin) -> None:
    done = cli("models", "wake", "tiny-llama", "--no-wait", "--timeout", "7", "--json")
    assert "('wait', 'false')" in done.json["message"]
    assert "('timeout_s', '7.0')" in done.json["message"]


@pytest.mark.parametrize("verb", ["sleep", "stop"])
def test_a_dry_run_of_putting_down_is_the_controllers_to_tell(cli: Cli, admin: FakeAdmin, verb: str) -> None:
    said = cli("models", verb, "tiny-llama", "--dry-run").out
    assert "('dry_run', 'true')" in said
    assert "('wait', 'false')" in said


def test_a_dry_run_of_waking_is_a_plan(cli: Cli, admin: FakeAdmin) -> None:
    admin.plan = plan_document(step(), explain=False, model=None, wake=None, drain=None)
    shown = cli("models", "wake", "n", "--dry-run")
    assert admin.asked == ["GET /admin/v1/plan"]
    assert shown.out == "If n were woken now:\nNothing is to be done.\n"
    assert "('wake', 'n')" in cli("models", "wake", "n", "--dry-run", "--json").json["what_if"]


def test_a_name_with_a_slash_gets_there_whole(cli: Cli, admin: FakeAdmin) -> None:
    cli("models", "stop", "org/broken")
    assert admin.asked == ["POST /admin/v1/models/org/broken/stop"]


def test_reload(cli: Cli, admin: FakeAdmin) -> None:
    assert cli("reload").status == 0
    assert admin.asked == ["POST /admin/v1/reload"]


def test_a_refusal_comes_with_its_code(cli: Cli, admin: FakeAdmin) -> None:
    admin.refuse["/admin/v1/models/gpt-9/wake"] = (404, "there is no model 'gpt-9'", "model_not_found")
    refused = cli("models", "wake", "gpt-9")
    assert (refused.status, refused.out) == (1, "")
    assert refused.err == "error: there is no model 'gpt-9'\n"
    as_json = cli("models", "wake", "gpt-9", "--json")
    assert as_json.status == 1
    assert as_json.error == {
        "message": "there is no model 'gpt-9'",
        "code": "model_not_found",
        "cure": None,
        "status": 404,
    }


def test_without_redis_the_doctor_is_named(cli: Cli, admin: FakeAdmin) -> None:
    admin.refuse["/admin/v1/gpus"] = (503, "Redis does not answer; try again.", "store_unavailable")
    assert "cure: what serves goes on; see what is wrong: roundhouse doctor" in cli("gpus").err


def test_a_wrong_configuration_is_the_askers_mistake(cli: Cli, admin: FakeAdmin) -> None:
    admin.refuse["/admin/v1/reload"] = (400, "models[0].ttl: is empty", "invalid_configuration")
    assert cli("reload").status == 2


def test_a_key_that_does_not_work(cli: Cli, admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_ADMIN_KEY", "rh-wrong")
    refused = cli("gpus")
    assert refused.status == 1
    assert "scope admin" in refused.err
    assert "rh-wrong" not in refused.err + refused.out
