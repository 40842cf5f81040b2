"""``roundhouse warm``: what is asked for gets there, times as people type them, and what is shown."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import msgspec
import pytest

from gateway.cli.errors import AskedWrongly
from gateway.cli.times import parse_until
from models.store.records import WarmRecord
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import FLEET, NOW_UNIX_S, FakeAdmin

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 10, 24, 12, 0, tzinfo=BERLIN)  # clocks go back in the night after


def record(**changes: object) -> WarmRecord:
    given: dict[str, object] = {
        "model_id": "tiny-llama",
        "by": "operator",
        "asked": 3,
        "replicas": 2,
        "from_unix_s": NOW_UNIX_S,
        "until_unix_s": None,
        "state": "short",
        "ready": 1,
        "reason": "no room",
    }
    return WarmRecord(**{**given, **changes})  # type: ignore[arg-type]


def test_a_model_is_kept_warm_until_then(cli: Cli, admin: FakeAdmin) -> None:
    done = cli("warm", "tiny-llama", "--replicas", "2", "--until", "2096-01-02T03:04:05Z")
    assert done.status == 0
    assert admin.asked == ["POST /admin/v1/models/tiny-llama/warm"]
    assert admin.asked_for == [{"replicas": "2", "until_unix_s": "3976311845.0"}]
    assert "an action" in done.out


def test_without_a_time_it_holds_until_it_is_called_off(cli: Cli, admin: FakeAdmin) -> None:
    cli("warm", "org/broken", "--wait", "--timeout", "9")
    cli("warm", "org/broken", "--off")
    cli("warm", "org/broken", "--off", "--dry-run", "--json")
    assert admin.asked == ["POST /admin/v1/models/org/broken/warm"] * 3
    assert admin.asked_for == [
        {"replicas": "1", "wait": "true", "timeout_s": "9.0"},
        {"replicas": "0"},
        {"replicas": "0", "dry_run": "true"},
    ]


def test_a_dry_run_shows_what_would_be_done(cli: Cli, admin: FakeAdmin) -> None:
    shown = cli("warm", "tiny-llama", "--dry-run")
    assert shown.status == 0
    assert admin.asked_for == [{"replicas": "1", "dry_run": "true"}]
    assert "Nothing is to be done." in shown.out


def test_what_is_kept_warm_is_listed_with_what_is_in_the_way(cli: Cli, admin: FakeAdmin) -> None:
    assert "Nothing is kept warm" in cli("warm").err
    planned = record(model_id="org/broken", by="schedule", state="planned", until_unix_s=NOW_UNIX_S + 60, asked=2)
    admin.fleet = msgspec.structs.replace(FLEET, warm=(record(), planned))
    lines = cli("warm").out.splitlines()
    assert lines[0].split() == ["MODEL", "REPLICAS", "READY", "STATE", "BY", "FROM", "UNTIL", "REASON"]
    assert "2 (max_replicas, 3 asked for)" in lines[1]
    assert lines[1].rstrip().endswith("no room")
    assert lines[2].split()[:5] == ["org/broken", "2", "1", "planned", "schedule"]
    found = cli("warm", "--json").json
    assert [one["state"] for one in found["data"]] == ["short", "planned"]


@pytest.mark.parametrize("wrong", [("--off",), ("--until", "2h"), ("--dry-run",), ("--wait",)])
def test_orders_name_a_model(cli: Cli, admin: FakeAdmin, wrong: tuple[str, ...]) -> None:
    said = cli("warm", *wrong)
    assert said.status == 2
    assert "cure: roundhouse warm MODEL --until 18:00" in said.err
    assert admin.asked == []


def test_off_takes_no_time(cli: Cli, admin: FakeAdmin) -> None:
    assert cli("warm", "a", "--off", "--until", "2h").status == 2
    assert cli("warm", "a", "--until", "soon").status == 2
    assert admin.asked == []


def test_a_refusal_comes_with_its_words(cli: Cli, admin: FakeAdmin) -> None:
    admin.refuse["/admin/v1/models/tiny-llama/warm"] = (409, "its schedule keeps it so", "scheduled")
    said = cli("warm", "tiny-llama", "--off")
    assert (said.status, said.out) == (1, "")
    assert "its schedule keeps it so" in said.err


def test_a_time_of_day_is_the_next_one_also_when_clocks_change() -> None:
    def later_h(text: str) -> float:
        return (parse_until(text, NOON) - NOON.timestamp()) / 3600

    assert later_h("18:00") == 6
    assert later_h("11:00") == 24, "23 hours by the clock, and one that it shows twice"
    assert later_h("12:00") == 25
    assert later_h("2h") == 2
    assert later_h("90s") == 0.025
    assert later_h("2026-10-24T10:30Z") == 0.5
    assert later_h("2026-10-24 12:30") == 0.5


def test_without_a_zone_times_are_those_of_this_machine() -> None:
    naive = datetime.now(UTC).astimezone().replace(tzinfo=None)
    assert 0 < parse_until("18:00", naive) - naive.timestamp() <= 25 * 3600


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("25:00", "no time"),
        ("soon", "no time"),
        ("2d", "unknown unit"),
        ("", "no time"),
        ("2001-01-01", "is over"),
        ("2026-10-24T09:59:59Z", "is over"),
    ],
)
def test_what_is_no_time_to_come_is_refused(text: str, said: str) -> None:
    with pytest.raises(AskedWrongly, match=said):
        parse_until(text, NOON)
