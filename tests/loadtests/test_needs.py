"""What is told before a load begins."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from loadtests.load.settings import Settings, SettingsError
from loadtests.needs import LOOPBACK, make_folder, need_admin, need_ports
from loadtests.options import parse
from loadtests.target import Target, TargetError, named_target
from tests.loadtests.fake_service import FakeModel, FakeService


def test_a_folder_is_made_and_a_file_in_its_place_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"--out: nothing can be written to .*file \(is no folder\); name another"):
        make_folder(tmp_path / "file")
    with pytest.raises(SettingsError, match="--out: nothing can be written to /proc/x"):
        make_folder(Path("/proc/x"))


@pytest.mark.parametrize("option", ["--web", "--metrics-port"])
def test_a_port_that_is_taken_is_told_with_its_option(option: str) -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        words = ["steady", option, str(other.getsockname()[1])]
        with pytest.raises(SettingsError, match=f"{option}: port .* cannot be had .*; name another"):
            need_ports(parse(words))
    need_ports(parse(words))
    need_ports(parse(["steady"]))


def test_two_servers_need_two_ports() -> None:
    with pytest.raises(SettingsError, match="two ports"):
        need_ports(parse(["steady", "--web", "9001", "--metrics-port", "9001"]))


def test_a_suite_that_gives_orders_needs_an_admin() -> None:
    with FakeService({"m": FakeModel()}).running() as service:
        need_admin(Settings(suite="zero"), service.target)
        need_admin(Settings(suite="steady"), Target(service.target.url))
        with pytest.raises(TargetError, match="chaos gives orders to a Roundhouse: set ROUNDHOUSE_ADMIN_KEY"):
            need_admin(Settings(suite="chaos"), Target(service.target.url, admin_key="wrong"))


def test_keys_of_the_service_that_runs_here_are_told_to_no_other(tmp_path: Path) -> None:
    (tmp_path / "demo.env").write_text(
        "ROUNDHOUSE_URL=http://127.0.0.1:1\nROUNDHOUSE_API_KEY=a\nROUNDHOUSE_ADMIN_KEY=b\n"
    )
    environ = {"ROUNDHOUSE_HOME": str(tmp_path), "ROUNDHOUSE_API_KEY": "a", "ROUNDHOUSE_ADMIN_KEY": "b"}
    assert named_target("http://127.0.0.1:1", environ) == Target("http://127.0.0.1:1", "a", "b")
    assert named_target("http://127.0.0.1:2", environ) == Target("http://127.0.0.1:2")
    assert named_target("http://127.0.0.1:2", environ | {"ROUNDHOUSE_API_KEY": "theirs"}).api_key == "theirs"
