"""Finding the service to load: by the environment, by the file that the service leaves, and never off this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.target import Target, TargetError, base_url, find_target, home_of, named_target, read_env_file


def test_the_environment_names_the_service() -> None:
    environ = {"ROUNDHOUSE_URL": "http://127.0.0.1:8000/v1/", "ROUNDHOUSE_API_KEY": "k", "ROUNDHOUSE_ADMIN_KEY": "a"}
    assert find_target(environ) == Target("http://127.0.0.1:8000", "k", "a")


def test_else_the_running_service_has_left_its_address(tmp_path: Path) -> None:
    (tmp_path / "demo.env").write_text(
        "# keys of the demo\nexport ROUNDHOUSE_URL='http://127.0.0.1:9'\nROUNDHOUSE_API_KEY=k\n"
    )
    assert find_target({"ROUNDHOUSE_HOME": str(tmp_path)}) == Target("http://127.0.0.1:9", "k")


def test_a_key_in_the_environment_is_used_with_the_address_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "demo.env").write_text("ROUNDHOUSE_URL=http://127.0.0.1:9\nROUNDHOUSE_API_KEY=k\n")
    environ = {"ROUNDHOUSE_HOME": str(tmp_path), "ROUNDHOUSE_API_KEY": "mine"}
    assert find_target(environ).api_key == "mine"


def test_the_keys_in_the_file_do_not_go_to_another_service(tmp_path: Path) -> None:
    (tmp_path / "demo.env").write_text("ROUNDHOUSE_URL=http://127.0.0.1:9\nROUNDHOUSE_API_KEY=k\n")
    assert find_target({"ROUNDHOUSE_HOME": str(tmp_path), "ROUNDHOUSE_URL": "http://127.0.0.1:7"}).api_key == ""


def test_without_either_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="start it with `make run`"):
        find_target({"ROUNDHOUSE_HOME": str(tmp_path)})


@pytest.mark.parametrize("url", ["http://127.0.0.1:80", "http://127.9.9.9", "http://localhost:1", "http://[::1]:8000"])
def test_loopback_addresses_may_be_loaded(url: str) -> None:
    assert find_target({"ROUNDHOUSE_URL": url}).loopback


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1", "https://models.example.org", "http://localhost.example.org", "http://0.0.0.0"]
)
def test_others_only_when_asked_for(url: str) -> None:
    with pytest.raises(TargetError, match="--allow-remote"):
        find_target({"ROUNDHOUSE_URL": url})
    assert find_target({"ROUNDHOUSE_URL": url}, allow_remote=True).url == url


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://localhost", "http://", "http://localhost:x", "http://localhost/api"]
)
def test_what_is_no_base_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(TargetError, match=r"should look like http://127\.0\.0\.1:8000"):
        base_url(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "secure"),
    [
        ("http://[::1]:81", "::1", 81, False),
        ("https://example.org", "example.org", 443, True),
        ("http://a", "a", 80, False),
    ],
)
def test_host_and_port_of_a_target(url: str, host: str, port: int, secure: bool) -> None:
    target = Target(url)
    assert (target.host, target.port, target.secure) == (host, port, secure)


def test_keys_do_not_show_in_a_repr_nor_in_the_url() -> None:
    shown = repr(find_target({"ROUNDHOUSE_URL": "http://user:pw@localhost:1", "ROUNDHOUSE_API_KEY": "secret"}))
    assert shown == "Target('http://localhost:1')"


def test_a_child_process_finds_the_same_target() -> None:
    target = Target("http://127.0.0.1:8000", "k", "a")
    assert find_target(target.environment()) == target


def test_the_home_is_where_the_service_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_of({}) == tmp_path / ".roundhouse"
    assert home_of({"ROUNDHOUSE_HOME": "/srv/x"}) == Path("/srv/x")


def test_a_missing_file_holds_nothing(tmp_path: Path) -> None:
    assert read_env_file(tmp_path / "demo.env") == {}


@pytest.mark.parametrize(("url", "key"), [("http://127.0.0.1:9/v1", "mine"), ("http://127.0.0.1:8", "")])
def test_keys_that_the_service_left_go_to_that_service_alone(url: str, key: str, tmp_path: Path) -> None:
    (tmp_path / "demo.env").write_text("ROUNDHOUSE_URL=http://127.0.0.1:9\nROUNDHOUSE_API_KEY=mine\n")
    environ = {"ROUNDHOUSE_HOME": str(tmp_path), "ROUNDHOUSE_URL": "http://127.0.0.1:7"}
    assert named_target(url, environ) == Target(url.removesuffix("/v1"), key)


def test_a_named_target_may_be_a_unix_socket_and_not_another_machine(tmp_path: Path) -> None:
    environ = {"ROUNDHOUSE_HOME": str(tmp_path), "ROUNDHOUSE_API_KEY": "k"}
    target = named_target("unix:/run/engine.sock", environ)
    assert (target.socket_path, target.api_key, target.loopback) == ("/run/engine.sock", "k", True)
    with pytest.raises(TargetError, match="--allow-remote"):
        named_target("http://192.0.2.1", environ)
