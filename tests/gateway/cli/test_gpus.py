"""``roundhouse gpus drain`` and ``undrain``."""

from __future__ import annotations

import msgspec

from gateway.plan_views import plan_document
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import FLEET, FakeAdmin
from tests.gateway.test_http_packing import step


def test_gpus_are_listed_by_default_and_a_drained_one_says_so(cli: Cli, admin: FakeAdmin) -> None:
    first, second = FLEET.gpus
    admin.fleet = msgspec.structs.replace(FLEET, gpus=(first, msgspec.structs.replace(second, cordoned=True)))
    shown = cli("gpus")
    assert shown.out == cli("gpus", "list").out
    assert "drained" not in shown.out.splitlines()[1]
    assert "drained" in shown.out.splitlines()[2]
    assert [gpu["cordoned"] for gpu in cli("gpus", "--json").json["data"]] == [False, True]


def test_a_gpu_is_drained_by_its_whole_id(cli: Cli, admin: FakeAdmin) -> None:
    done = cli("gpus", "drain", "vm/gpu-0")
    assert done.status == 0
    assert admin.asked == ["POST /admin/v1/gpus/vm/gpu-0/drain"]
    assert "('wait', 'false')" in done.out
    assert "  an action" in done.out


def test_whoever_wants_waits_until_it_is_empty(cli: Cli, admin: FakeAdmin) -> None:
    message = cli("gpus", "drain", "vm/gpu-0", "--wait", "--timeout", "9", "--json").json["message"]
    assert "('timeout_s', '9.0'), ('wait', 'true')" in message


def test_undrain(cli: Cli, admin: FakeAdmin) -> None:
    assert cli("gpus", "undrain", "vm/gpu-0").status == 0
    assert admin.asked == ["POST /admin/v1/gpus/vm/gpu-0/undrain"]


def test_a_dry_run_only_asks(cli: Cli, admin: FakeAdmin) -> None:
    admin.plan = plan_document(step(), explain=False, model=None, wake=None, drain=None)
    shown = cli("gpus", "drain", "vm/gpu-0", "--dry-run")
    assert shown.out.startswith("If vm/gpu-0 were drained now:\n")
    assert cli("gpus", "drain", "vm/gpu-0", "--dry-run", "--json").json["what_if"] == "[('drain', 'vm/gpu-0')]"
    assert cli("gpus", "undrain", "vm/gpu-0", "--dry-run").out == "vm/gpu-0 is not drained: nothing would change\n"
    first, second = FLEET.gpus
    admin.fleet = msgspec.structs.replace(FLEET, gpus=(msgspec.structs.replace(first, cordoned=True), second))
    assert cli("gpus", "undrain", "vm/gpu-0", "--dry-run").out == "vm/gpu-0 would take replicas again\n"
    assert not any(asked.startswith("POST") for asked in admin.asked)


def test_a_gpu_that_is_not_there(cli: Cli, admin: FakeAdmin) -> None:
    admin.refuse["/admin/v1/gpus/vm/9/drain"] = (404, "there is no GPU 'vm/9'; there are vm/gpu-0.", "gpu_not_found")
    said = cli("gpus", "drain", "vm/9")
    assert (said.status, said.out) == (1, "")
    assert "there are vm/gpu-0" in said.err
