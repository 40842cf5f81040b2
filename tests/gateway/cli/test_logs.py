"""``roundhouse logs``: from the service, or from the files that it has left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import logs
from models.home import Home
from models.runtimes.host.engine_log import LogHead
from models.runtimes.host.log_reader import LogLine
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import FakeAdmin

LINES = [
    LogLine(source="tiny-llama-1", text="ready: fork 0.002 s", at_unix_s=1.0),
    LogLine(source="tiny-llama-2", text="loading", at_unix_s=2.0),
]


@pytest.fixture
def speaking(admin: FakeAdmin) -> FakeAdmin:
    admin.logs = {"model=tiny-llama": LINES, "part=gateway": [LogLine(source="gateway", text="listening")]}
    return admin


def test_each_line_says_whose_it_is(cli: Cli, speaking: FakeAdmin) -> None:
    shown = cli("logs", "tiny-llama")
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.splitlines() == ["tiny-llama-1 | ready: fork 0.002 s", "tiny-llama-2 | loading"]


def test_as_json_each_line_is_an_object(cli: Cli, speaking: FakeAdmin) -> None:
    shown = cli("logs", "tiny-llama", "--json")
    assert shown.out.splitlines()[1] == '{"source": "tiny-llama-2", "text": "loading", "at_unix_s": 2.0}'


def test_what_is_no_model_may_be_a_part(cli: Cli, speaking: FakeAdmin) -> None:
    assert cli("logs", "gateway").out == "gateway | listening\n"


def test_what_is_neither_is_an_unknown_model(cli: Cli, speaking: FakeAdmin) -> None:
    shown = cli("logs", "nobody", "--json")
    assert (shown.status, shown.error["code"]) == (1, "model_not_found")


def test_what_was_asked_for_reaches_the_service(cli: Cli, speaking: FakeAdmin) -> None:
    cli("logs", "tiny-llama", "-n", "7", "--replica", "tiny-llama-1", "-f", "--since", "10m")
    asked = speaking.asked_for[-1]
    assert (asked["lines"], asked["replica"], asked["follow"]) == ("7", "tiny-llama-1", "true")
    assert float(asked["since_unix_s"]) > 1.7e9


def test_a_wrong_time_is_named(cli: Cli, speaking: FakeAdmin) -> None:
    shown = cli("logs", "tiny-llama", "--since", "yesterday", "--json")
    assert (shown.status, shown.error["code"]) == (2, "invalid_duration")


def test_ctrl_c_ends_it_in_order(cli: Cli, speaking: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> Iterator[dict[str, object]]:
        yield {"source": "tiny-llama-1", "text": "the first"}
        raise KeyboardInterrupt

    monkeypatch.setattr(logs, "_lines", interrupted)
    shown = cli("logs", "tiny-llama", "-f")
    assert (shown.status, shown.out) == (0, "tiny-llama-1 | the first\n")


@pytest.fixture
def left_behind(home: Home) -> Path:
    """Logs of a service that is gone."""
    home.create()
    head = LogHead(replica_id="m-1", model_id="m", runtime="vllm", pid=7, started_unix_s=1.0)
    (home.engine_logs / "m-1.log").write_bytes(head.line() + b"no room\n")
    (home.logs / "launcher.log").write_text("warming\n")
    return home.logs


def test_without_a_service_the_files_are_read(cli: Cli, left_behind: Path) -> None:
    shown = cli("logs", "m")
    assert shown.status == 0
    assert shown.out.splitlines() == ["m-1 | -- m-1: model m, runtime vllm, process 7", "m-1 | no room"]
    assert shown.err == f"No service answers; these are the files in {left_behind}.\n"
    assert cli("logs", "launcher").out == "launcher | warming\n"


def test_without_a_service_a_file_can_be_followed(cli: Cli, left_behind: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_then_interrupt(_seconds: float) -> None:
        with (left_behind / "launcher.log").open("a") as log:
            log.write("ready\n")
        monkeypatch.setattr(time, "sleep", interrupt)

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", write_then_interrupt)
    shown = cli("logs", "launcher", "-f")
    assert (shown.status, shown.out) == (0, "launcher | warming\nlauncher | ready\n")


def test_without_a_service_and_a_file_there_is_nothing_to_show(cli: Cli, left_behind: Path) -> None:
    shown = cli("logs", "nobody", "--json")
    assert (shown.status, shown.error["code"]) == (1, "no_log")
    assert "launcher" in shown.error["cure"]


def test_a_service_elsewhere_that_does_not_answer_has_no_files_here(
    cli: Cli, left_behind: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ROUNDHOUSE_ADMIN_KEY", "k")
    shown = cli("logs", "m", "--json")
    assert (shown.status, shown.error["code"]) == (1, "unreachable")
