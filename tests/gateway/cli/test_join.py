"""``join`` before anything runs: what the head says, what is written down, and every mistake with its cure."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.cli import membership
from gateway.service.door.words import own_versions
from gateway.service.ports import free_port
from models import cluster
from models.catalog.units import parse_bytes
from models.fleet import node_file
from models.home import Home
from tests.gateway.cli.conftest import Cli
from tests.gateway.cli.doors import SHARED, open_door

ADDRESS = "127.0.0.1"


@pytest.fixture(autouse=True)
def loopback_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head and this machine are the same one here, and nobody else is to reach them; port 0 is chosen for tests."""
    monkeypatch.setattr(membership, "own_address", lambda host, option: None)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "copy.secret"
    path.write_text(f"{SHARED}\n")
    return path


@pytest.fixture
def head(tmp_path: Path) -> Iterator[str]:
    with open_door(tmp_path) as port:
        yield f"{ADDRESS}:{port}"


def test_what_is_written_down_is_what_the_parts_run_by(cli: Cli, home: Home, head: str, secret_file: Path) -> None:
    options = ("--gpus", "2x1GiB", "--pool", "spot", "--host-memory", "1GiB", "--notice", "aws", "--name", "a7")
    said = cli("join", head, "--secret-file", str(secret_file), *options, "--setup-only", "--json")
    assert said.status == 0, said.err
    assert (said.json["node"], said.json["head"], said.json["url"]) == ("a7", head, "http://127.0.0.1:8000")
    written = node_file.read(home.node_file, otherwise="")
    assert written == node_file.NodeFile(
        name="a7", address=ADDRESS, gpus="2x1GiB", pool="spot", host_bytes=parse_bytes("1GiB"), notice="aws"
    )
    joined = cluster.read(home)
    assert joined is not None
    assert (joined.role, f"{joined.head}:{joined.port}") == ("node", head)
    assert home.cluster_secret.read_text() == SHARED
    assert stat.S_IMODE(home.cluster_secret.stat().st_mode) == 0o600


def test_the_parts_of_a_node(cli: Cli, home: Home, head: str, secret_file: Path) -> None:
    cli("join", head, "--secret-file", str(secret_file), "--name", "a7", "--setup-only")
    shown = cli("part", "member", "--dry-run", "--json").json
    assert shown["environment"]["ROUNDHOUSE_NODE"] == "a7"
    assert shown["command"][1:] == ["-m", "gateway.service.member", "--home", str(home.root)]
    assert cli("cluster", "--json").json["role"] == "node"
    again = cli("join", head, "--dry-run", "--json")
    assert again.json["node"] == "a7", "it keeps its name, and has the secret"


def test_a_machine_that_joins_again_is_the_same_one(cli: Cli, home: Home, head: str, secret_file: Path) -> None:
    cli("join", head, "--secret-file", str(secret_file), "--setup-only")
    first = cluster.read(home)
    assert cli("join", head, "--setup-only").status == 0, "its own name is not taken"
    assert cluster.read(home) == first


def test_a_dry_run_asks_the_head_and_writes_nothing(cli: Cli, home: Home, head: str, secret_file: Path) -> None:
    said = cli("join", head, "--secret-file", str(secret_file), "--gateway", "--port", "8123", "--dry-run")
    assert said.status == 0, said.err
    assert "would join" in said.out
    assert "http://127.0.0.1:8123" in said.out
    assert not cluster.file(home).exists()
    assert not home.cluster_secret.exists()


def test_a_wrong_secret_and_none_and_a_short_one(cli: Cli, head: str, tmp_path: Path) -> None:
    said = cli("join", head, "--json")
    assert (said.status, said.error["code"]) == (2, "no_secret")
    assert "--secret-file" in said.error["cure"]
    wrong = tmp_path / "wrong"
    wrong.write_text("short")
    said = cli("join", head, "--secret-file", str(wrong), "--json")
    assert (said.status, "5 characters" in said.error["message"]) == (2, True)
    wrong.write_text("0" * 64)
    said = cli("join", head, "--secret-file", str(wrong), "--json")
    assert (said.status, said.error["code"]) == (1, "wrong_secret")
    assert "roundhouse cluster secret" in said.error["cure"]


def test_a_head_that_is_not_there(cli: Cli, secret_file: Path) -> None:
    said = cli("join", f"{ADDRESS}:{free_port(ADDRESS)}", "--secret-file", str(secret_file), "--json")
    assert (said.status, said.error["code"]) == (1, "unreachable")
    assert "up --cluster" in said.error["cure"]


def test_a_taken_name_and_another_version(cli: Cli, tmp_path: Path, head: str, secret_file: Path) -> None:
    said = cli("join", head, "--secret-file", str(secret_file), "--name", "head", "--json")
    assert (said.status, said.error["code"]) == (1, "name_taken")
    newer = msgspec.structs.replace(own_versions(), ray="9.9.9")
    with open_door(tmp_path, versions=newer) as port:
        said = cli("join", f"{ADDRESS}:{port}", "--secret-file", str(secret_file), "--json")
    assert (said.status, said.error["code"]) == (1, "version_mismatch")
    assert "Ray 9.9.9" in said.error["message"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--gpus", "many"), "invalid_gpus"),
        (("--host-memory", "much"), "invalid_size"),
        (("--host-memory", "900TiB"), "invalid_size"),
        (("--notice", "pigeon"), "invalid_notice"),
        (("--name", "a b"), "invalid_name"),
        (("--port", "8001"), "usage"),
        (("--address", "no such host.invalid"), "invalid_address"),
    ],
)
def test_options_that_cannot_be_used(
    cli: Cli, head: str, secret_file: Path, options: tuple[str, ...], code: str
) -> None:
    said = cli("join", head, "--secret-file", str(secret_file), *options, "--json")
    assert (said.status, said.error["code"]) == (2, code)
    assert said.error["cure"]


@pytest.mark.parametrize("address", ["10.0.0.1:high", "10.0.0.1:80", "10.0.0.1:65500", "no such host.invalid"])
def test_a_head_whose_address_cannot_be_read(cli: Cli, secret_file: Path, address: str) -> None:
    said = cli("join", address, "--secret-file", str(secret_file), "--json")
    assert (said.status, said.error["code"]) == (2, "invalid_address")


def test_a_machine_without_a_gpu_where_none_are_simulated(
    cli: Cli, tmp_path: Path, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.nvml import NvmlUnavailable

    def none() -> None:
        raise NvmlUnavailable("no driver")

    monkeypatch.setattr("models.nvml.probe", none)
    with open_door(tmp_path, simulated=False) as port:
        words = ("join", f"{ADDRESS}:{port}", "--secret-file", str(secret_file), "--dry-run", "--json")
        said = cli(*words)
        assert (said.status, said.error["code"]) == (1, "no_gpu")
        assert "--gpus" in said.error["cure"]
        assert cli(*words, "--gpus", "1x1GiB").status == 0


def test_a_gateway_where_the_cluster_has_a_redis_of_its_own(
    cli: Cli, tmp_path: Path, secret_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_door(tmp_path, own_redis=True) as port:
        words = ("join", f"{ADDRESS}:{port}", "--secret-file", str(secret_file), "--dry-run", "--json")
        assert cli(*words).status == 0, "only a gateway needs it"
        said = cli(*words, "--gateway")
        assert (said.status, said.error["code"]) == (2, "invalid_setting")
        monkeypatch.setenv("ROUNDHOUSE_REDIS_URL", "redis://10.0.0.9:6379/0")
        assert cli(*words, "--gateway").status == 0


def test_one_that_leads_does_not_join_and_one_that_joined_does_not_lead(
    cli: Cli, home: Home, head: str, secret_file: Path
) -> None:
    cli("cluster", "lead", ADDRESS)
    said = cli("join", head, "--secret-file", str(secret_file), "--json")
    assert (said.status, said.error["code"]) == (2, "leads_already")
    assert cli("cluster", "leave").status == 0
    assert cli("join", head, "--secret-file", str(secret_file), "--setup-only").status == 0
    for words in (("up", "--dry-run"), ("up", "--cluster", ADDRESS, "--dry-run"), ("cluster", "lead", ADDRESS)):
        said = cli(*words, "--json")
        assert (said.status, said.error["code"]) == (2, "joined_already")
        assert "roundhouse join" in said.error["cure"]


def test_doctor_asks_at_the_door(cli: Cli, tmp_path: Path, home: Home, secret_file: Path) -> None:
    def said() -> dict[str, str]:
        checks = cli("doctor", "--port", "0", "--json").json["checks"]
        found: dict[str, str] = next(check for check in checks if check["name"] == "cluster")
        return found

    assert said()["verdict"] == "ok"
    with open_door(tmp_path, session=None) as port:
        cli("join", f"{ADDRESS}:{port}", "--secret-file", str(secret_file), "--name", "a7", "--setup-only")
        assert (said()["verdict"], "whose Ray does not run" in said()["found"]) == ("warn", True)
    assert (said()["verdict"], "no head answers" in said()["found"]) == ("fail", True)
    home.cluster_secret.unlink()
    assert "--secret-file" in said()["cure"]
    cluster.file(home).write_text("{")
    assert "roundhouse cluster leave" in said()["cure"]
