"""``cluster``, and ``up --cluster`` before anything runs."""

from __future__ import annotations

import stat

import pytest

from gateway.cli import membership
from models import cluster, secret
from models.cluster import Cluster
from models.fleet import node_file
from models.home import Home
from tests.gateway.cli.conftest import Cli

HEAD = "127.0.0.2"  # this machine's; no other reaches it there, which these tests do not mind


@pytest.fixture(autouse=True)
def loopback_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "own_address", lambda host, option: None)


def test_a_machine_is_alone_until_it_leads(cli: Cli, home: Home) -> None:
    assert cli("cluster", "--json").json == {"role": "alone"}
    assert "alone" in cli("cluster").out
    said = cli("cluster", "lead", HEAD, "--name", "h1", "--json")
    assert said.json == {"head": f"{HEAD}:7470", "node": "h1", "done": True}
    shown = cli("cluster", "--json").json
    assert (shown["role"], shown["node"], shown["ports"]) == ("head", "h1", [7470, 7619])
    assert shown["redis"] == f"{HEAD}:7472"
    assert "7470 to 7619" in cli("cluster").out
    assert node_file.read(home.node_file, otherwise="") == node_file.NodeFile(name="h1", address=HEAD)


def test_the_secret_is_made_once_and_its_place_is_shown_but_not_itself(cli: Cli, home: Home) -> None:
    said = cli("cluster", "secret")
    assert said.out.strip() == str(home.cluster_secret)
    made = secret.read(home.cluster_secret)
    assert stat.S_IMODE(home.cluster_secret.stat().st_mode) == 0o600
    assert made not in said.out + said.err
    assert cli("cluster", "secret", "--json").json == {"secret_file": str(home.cluster_secret)}
    cli("cluster", "lead", HEAD)
    assert secret.read(home.cluster_secret) == made


def test_a_secret_that_cannot_be_one_is_not_used(cli: Cli, home: Home) -> None:
    home.cluster_secret.write_text("short")
    for words in (("cluster", "secret"), ("cluster", "lead", HEAD)):
        said = cli(*words, "--json")
        assert (said.status, said.error["code"]) == (1, "no_secret")
        assert "remove" in said.error["cure"]


def test_dry_runs_do_nothing(cli: Cli, home: Home) -> None:
    assert "would lead" in cli("cluster", "lead", HEAD, "--dry-run").out
    assert not cluster.file(home).exists()
    cli("cluster", "lead", HEAD)
    assert "would leave" in cli("cluster", "leave", "--dry-run").out
    assert cluster.file(home).exists()


def test_leaving_makes_it_alone_again(cli: Cli, home: Home) -> None:
    assert cli("cluster", "leave", "--json").json == {"left": None, "done": True}
    cli("cluster", "lead", f"{HEAD}:9000")
    assert cli("cluster", "leave", "--json").json == {"left": f"{HEAD}:9000", "done": True}
    assert cluster.read(home) is None
    assert not home.node_file.exists()
    assert home.cluster_secret.exists()


def test_what_up_would_run_on_a_head(cli: Cli, home: Home) -> None:
    shown = cli("up", "--cluster", f"{HEAD}:9000", "--dry-run", "--json")
    assert shown.status == 0, shown.err
    parts = {part["name"]: part for part in shown.json["parts"]}
    assert list(parts) == ["demo-models", "launcher", "redis", "ray", "door", "gateway", "meter", "control"]
    ray = parts["ray"]["command"]
    assert {f"--node-ip-address={HEAD}", "--port=9001", "--node-manager-port=9003", "--max-worker-port=9149"} <= set(
        ray
    )
    control = parts["control"]["command"]
    assert control[control.index("--ray-address") + 1] == f"{HEAD}:9001"
    assert "--url" not in parts["door"]["command"], "its gateway is on loopback, which is no use to others"
    assert not home.cluster_secret.exists(), "nothing was made"


@pytest.mark.parametrize(("host", "url"), [("0.0.0.0", f"http://{HEAD}:8000"), ("127.0.0.3", None)])
def test_the_door_tells_of_a_gateway_that_others_reach(cli: Cli, host: str, url: str | None) -> None:
    shown = cli("up", "--cluster", HEAD, "--host", host, "--dry-run", "--json").json
    door = next(part["command"] for part in shown["parts"] if part["name"] == "door")
    assert (door[-1] if door[-2] == "--url" else None) == url


def test_on_loopback_again_nothing_of_the_cluster_is_left(cli: Cli, home: Home) -> None:
    led = membership.leading(home, HEAD, "h1")
    membership.settle(home, led)
    membership.settle(home, membership.leading(home, None, None))
    assert cluster.read(home) is None
    parts = {part["name"]: part["command"] for part in cli("up", "--dry-run", "--json").json["parts"]}
    assert "--node-ip-address=127.0.0.1" in parts["ray"]


def test_parts_for_systemd_are_those_that_up_runs(cli: Cli) -> None:
    cli("cluster", "lead", HEAD)
    parts = {
        part["name"]: part["command"] for part in cli("up", "--cluster", HEAD, "--dry-run", "--json").json["parts"]
    }
    for name in ("redis", "ray", "door", "control", "gateway", "launcher"):
        assert cli("part", name, "--dry-run", "--json").json["command"] == parts[name]


def test_a_ray_of_the_operators_own_makes_the_cluster_itself(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_RAY_ADDRESS", "10.0.0.7:6379")
    said = cli("up", "--cluster", HEAD, "--json")
    assert (said.status, said.error["code"]) == (2, "invalid_setting")
    assert "ROUNDHOUSE_RAY_ADDRESS" in said.error["cure"]


def test_a_name_needs_a_cluster(cli: Cli) -> None:
    said = cli("up", "--name", "h1", "--dry-run", "--json")
    assert (said.status, said.error["code"]) == (2, "usage")


def test_a_damaged_file_is_named_with_its_cure(cli: Cli, home: Home) -> None:
    cluster.file(home).write_text("{")
    for words in (("cluster",), ("part", "redis", "--dry-run"), ("up", "--cluster", HEAD, "--dry-run")):
        said = cli(*words, "--json")
        assert (said.status, said.error["code"]) == (1, "state_folder"), words
        assert "lead the cluster or join it again" in said.error["message"]
    assert cli("cluster", "leave").status == 0
    assert cli("cluster", "--json").json == {"role": "alone"}


def test_a_damaged_node_file_is_named_too(cli: Cli, home: Home) -> None:
    cli("cluster", "lead", HEAD, "--name", "h1")
    home.node_file.write_text("{")
    for words in (("part", "redis", "--dry-run"), ("cluster", "lead", HEAD), ("cluster",)):
        said = cli(*words, "--json")
        assert (said.status, said.error["code"], "remove it" in said.error["cure"]) == (1, "state_folder", True), words
    assert cli("cluster", "lead", HEAD, "--name", "h1").status == 0, "named anew, it is written anew"


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "198.51.100.7", "224.0.0.1"])
def test_addresses_at_which_nobody_else_reaches_this_machine(
    cli: Cli, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    said = cli("cluster", "lead", address, "--json")
    assert (said.status, said.error["code"]) == (2, "invalid_address")
    assert "ip addr" in said.error["cure"]


def test_a_head_with_a_redis_of_the_operators_own(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_REDIS_URL", "redis://10.0.0.9:6379/0")
    cli("cluster", "lead", HEAD)
    led = cluster.read(home)
    assert isinstance(led, Cluster)
    assert led.own_redis
    assert cli("cluster", "--json").json["redis"] is None
    parts = [part["name"] for part in cli("up", "--cluster", HEAD, "--dry-run", "--json").json["parts"]]
    assert "redis" not in parts
