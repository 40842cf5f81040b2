"""Which service is meant, and what is said when there is none."""

from __future__ import annotations

import socket
import threading

import pytest

from gateway.cli.client import find_service
from gateway.cli.errors import AskedWrongly, CliError, NotRunning
from gateway.service import credentials
from models.home import Home
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.fake_admin import KEY, FakeAdmin, serving

URL, ADMIN_KEY = "ROUNDHOUSE_URL", "ROUNDHOUSE_ADMIN_KEY"


def test_the_environment_comes_before_the_state_folder(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(home.root))
    credentials.write(home.demo_env, {URL: "http://127.0.0.1:1", ADMIN_KEY: "rh-folder"})
    found = find_service(env={URL: "http://127.0.0.1:2/", ADMIN_KEY: "rh-env"})
    assert (found.url, found.key) == ("http://127.0.0.1:2", "rh-env")
    found = find_service(env={})
    assert (found.url, found.key) == ("http://127.0.0.1:1", "rh-folder")
    assert "rh-folder" not in repr(found)


def test_a_named_state_folder_comes_before_everything(home: Home) -> None:
    credentials.write(home.demo_env, {URL: "http://127.0.0.1:1", ADMIN_KEY: "rh-folder"})
    found = find_service(home.root, env={URL: "http://127.0.0.1:2", ADMIN_KEY: "rh-env"})
    assert (found.url, found.key) == ("http://127.0.0.1:1", "rh-folder")


def test_no_service_no_key_no_url(home: Home) -> None:
    with pytest.raises(NotRunning, match=f"no service runs for {home.root}"):
        find_service(home.root)
    credentials.write(home.demo_env, {URL: "http://127.0.0.1:1"})
    with pytest.raises(CliError, match="no admin key") as missing:
        find_service(home.root)
    assert "roundhouse keys create" in missing.value.cure
    credentials.write(home.demo_env, {URL: "127.0.0.1:1", ADMIN_KEY: "rh-x"})
    with pytest.raises(AskedWrongly, match="not a URL"):
        find_service(home.root)


@pytest.mark.parametrize(
    "command",
    [("gpus",), ("models",), ("models", "wake", "m"), ("replicas",), ("decisions",), ("reload",), ("status",)],
)
def test_without_a_service_every_command_says_how_to_start_one(cli: Cli, command: tuple[str, ...]) -> None:
    said = cli(*command)
    assert (said.status, said.out) == (1, "")
    assert "roundhouse up" in said.err
    assert cli(*command, "--json").error["code"] == "not_running"


def test_a_service_that_does_not_answer(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, "http://127.0.0.1:1")
    monkeypatch.setenv(ADMIN_KEY, "rh-x")
    refused = cli("gpus", "--json")
    assert refused.status == 1
    assert refused.error["code"] == "unreachable"
    assert "http://127.0.0.1:1" in refused.error["message"]


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"HTTP/1.1 404 No\r\n\r\n"],
)
def test_something_else_that_answers(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(answer)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(CliError) as problem:
            find_service(env={URL: url, ADMIN_KEY: "rh-x"}).get("gpus")
        thread.join()
    assert problem.value.code in ("unreachable", "unexpected_answer")


def test_a_proxy_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving(FakeAdmin()) as admin:
        assert find_service(env={URL: admin.url, ADMIN_KEY: KEY}).get("gpus")["simulated"] is True
