"""``roundhouse usage``: sums, GPUs' time and single requests, for people, for spreadsheets and for programs."""

from __future__ import annotations

import csv
import io

import pytest

from gateway import usage_documents as shapes
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import FakeAdmin

NOON = 1_793_534_400  # 2026-11-01T12:00Z


def row(**fields: object) -> shapes.UsageRow:
    return shapes.UsageRow(**{"requests": 1, "cost": "0.50", **fields})  # type: ignore[arg-type]


def report(*rows: shapes.UsageRow, bucket: str = "none", by: tuple[str, ...] = ("tenant", "model")) -> object:
    unusual = shapes.KeyAnomaly(
        key="key_9", tenant="acme", project="web", metric="cost", hour_unix_s=NOON, used=25 * 10**9, usual=10**9,
        times=25, text="the key key_9 used much",
    )  # fmt: skip
    return shapes.UsageReport(
        since_unix_s=NOON - 3600, until_unix_s=NOON, settled_until_unix_s=NOON - 500.0, bucket=bucket, by=by,
        currency="EUR", total=shapes.Sums(requests=12_345, cost="6172.50"), data=rows, anomalies=(unusual,),
    )  # fmt: skip


def test_a_table_with_its_total_and_what_is_unusual(cli: Cli, admin: FakeAdmin) -> None:
    admin.documents["usage"] = report(
        row(tenant="acme", model="m", requests=12_000, gpu_ns=1_500_000_000, memory_kib_ms=(1 << 20) * 2500),
        row(tenant="acme", model=""),
    )
    shown = cli("usage")
    assert shown.status == 0
    lines = shown.out.splitlines()
    assert lines[0].split() == [
        "TENANT", "MODEL", "REQUESTS", "ERRORS", "INPUT", "CACHED", "OUTPUT", "GPU-S", "START-S", "GIB-S", "COST",
        "(EUR)",
    ]  # fmt: skip
    assert lines[1].split() == ["acme", "m", "12,000", "0", "0", "0", "0", "1.500", "0.000", "2.500", "0.50"]
    assert lines[2].split()[:2] == ["acme", "-"]
    assert lines[3].split()[:2] == ["total", "-"]
    assert lines[3].split()[-1] == "6172.50"
    assert "Settled until 2026-11-01 11:51:40Z" in shown.err
    assert "Unusual: the key key_9 used much" in shown.err
    assert admin.asked_for[-1] == {"by": "tenant,model", "since": "24h", "bucket": "none"}


def test_all_that_may_be_asked_goes_along(cli: Cli, admin: FakeAdmin) -> None:
    admin.documents["usage"] = report(row(at="2026-11-01T11", key="k"), bucket="hour", by=("key",))
    shown = cli(
        "usage", "--by", "key", "--since", "7d", "--until", "1d", "--bucket", "hour", "--tenant", "acme",
        "--project", "web", "--key", "k", "--model", "m",
    )  # fmt: skip
    assert admin.asked_for[-1] == {
        "by": "key", "since": "7d", "until": "1d", "bucket": "hour", "tenant": "acme", "project": "web", "key": "k",
        "model": "m",
    }  # fmt: skip
    assert shown.out.splitlines()[0].split()[:2] == ["HOUR", "KEY"]
    assert shown.out.splitlines()[1].split()[:2] == ["2026-11-01T11", "k"]


def test_csv_is_in_whole_units_and_json_as_the_service_said(cli: Cli, admin: FakeAdmin) -> None:
    admin.documents["usage"] = report(row(tenant='a "b", c', model="m", gpu_ns=7))
    (line,) = csv.DictReader(io.StringIO(cli("usage", "--csv").out))
    assert (line["tenant"], line["gpu_ns"], line["cost"], line["currency"]) == ('a "b", c', "7", "0.50", "EUR")
    found = cli("usage", "--json").json
    assert found["total"]["requests"] == 12_345
    both = cli("usage", "--json", "--csv")
    assert (both.status, both.error["code"]) == (2, "usage")


def test_what_the_service_refuses_is_said(cli: Cli, admin: FakeAdmin) -> None:
    admin.refuse["/admin/v1/usage"] = (400, "by: 'user' is not one of tenant, project, key, model.", "invalid_request")
    said = cli("usage", "--by", "user")
    assert (said.status, said.out) == (2, "")
    assert "'user' is not one of" in said.err


def test_nothing_was_settled_yet(cli: Cli, admin: FakeAdmin) -> None:
    admin.documents["usage"] = shapes.UsageReport(
        since_unix_s=0, until_unix_s=1, settled_until_unix_s=None, bucket="none", by=(), currency="USD",
        total=shapes.Sums(), data=(),
    )  # fmt: skip
    said = cli("usage")
    assert (said.status, said.out) == (0, "")
    assert "Nothing was used in that time." in said.err
    assert "is the meter running?" in said.err


def gpu_report() -> object:
    rows = [("vm/0", "busy", 6), ("vm/0", "idle", 2), ("vm/0", "free", 2), ("vm/1", "free", 10)]
    return shapes.GpuUsageReport(
        since_unix_s=NOON - 3600, until_unix_s=NOON, settled_until_unix_s=NOON, bucket="none", by=("gpu", "use"),
        total_ns={"busy": 6 * 10**9, "idle": 2 * 10**9, "free": 12 * 10**9},
        data=tuple(shapes.GpuUsageRow(gpu=gpu, use=use, ns=s * 10**9) for gpu, use, s in rows),
    )  # fmt: skip


def test_gpus_show_what_their_time_went_to(cli: Cli, admin: FakeAdmin) -> None:
    admin.documents["usage/gpus"] = gpu_report()
    shown = cli("usage", "gpus")
    assert [line.split() for line in shown.out.splitlines()] == [
        ["GPU", "BUSY", "S", "IDLE", "S", "STARTING", "S", "FREE", "S", "ALL", "S", "BUSY"],
        ["vm/0", "6.000", "2.000", "0.000", "2.000", "10.000", "60.0%"],
        ["vm/1", "0.000", "0.000", "0.000", "10.000", "10.000", "0.0%"],
        ["total", "6.000", "2.000", "0.000", "12.000", "20.000", "30.0%"],
    ]
    assert admin.asked_for[-1]["by"] == "gpu,use"
    assert shown.err == ""
    assert cli("usage", "gpus", "--csv").out.splitlines()[:2] == ["gpu,use,ns", "vm/0,busy,6000000000"]
    assert cli("usage", "gpus", "--json").json["total_ns"]["idle"] == 2 * 10**9


def requests() -> object:
    done = shapes.SettledRequest(
        id="r1", started_us=NOON * 10**6, ended_us=(NOON + 5) * 10**6, key_id="key_1", project="web", tenant="acme",
        model="m", endpoint="chat.completions", status=200, prompt_tokens=7, completion_tokens=9, estimated=True,
        cut=True, gpu_ns=1_234_567_890, cost=5, currency="EUR", position="5-1", amount="0.000000005",
    )  # fmt: skip
    return shapes.SettledRequests(data=(done,), next_before=None)


def test_single_requests(cli: Cli, admin: FakeAdmin) -> None:
    admin.documents["usage/requests"] = requests()
    shown = cli("usage", "requests", "--limit", "5", "--tenant", "acme", "--id", "r1")
    assert shown.out.splitlines()[1].split() == [
        "2026-11-01", "12:00:05Z", "r1", "acme", "key_1", "m", "200", "cut", "~7", "9", "1.235", "0.000000005", "EUR",
    ]  # fmt: skip
    assert admin.asked_for[-1] == {"limit": "5", "tenant": "acme", "id": "r1"}
    (line,) = csv.DictReader(io.StringIO(cli("usage", "requests", "--csv").out))
    assert (line["id"], line["gpu_ns"], line["amount"]) == ("r1", "1234567890", "0.000000005")
    assert "runs" not in line
    assert cli("usage", "requests", "--json").json["data"][0]["position"] == "5-1"


@pytest.mark.parametrize("command", [("usage",), ("usage", "gpus"), ("usage", "requests")])
def test_without_a_service_the_cure_is_to_start_one(cli: Cli, command: tuple[str, ...]) -> None:
    assert cli(*command, "--json").error["code"] == "not_running"
