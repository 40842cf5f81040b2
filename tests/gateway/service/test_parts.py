"""What the parts of an installation are: commands, needs, environments."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from gateway.service import ray_head
from gateway.service.parts import (
    SOURCE_ROOT,
    GatewayOptions,
    Installation,
    all_parts,
    environment,
    part,
    part_names,
    reachable,
)
from gateway.service.spec import PartSpec, start_layers, stop_layers
from gateway.settings import Limits
from models import secret
from models.cluster import Cluster
from models.fleet.node_file import NodeFile
from models.home import INSTANCE_ENV, Home


def installation(home: Home, **changes: object) -> Installation:
    return Installation(home=home, config=home.config, **changes)  # type: ignore[arg-type]


def by_name(parts: tuple[PartSpec, ...]) -> dict[str, PartSpec]:
    return {each.name: each for each in parts}


def test_the_demo_starts_what_it_can_at_once(home: Home) -> None:
    parts = all_parts(installation(home, demo_models=home.models))
    assert start_layers(parts) == (("demo-models", "launcher", "redis", "ray"), ("gateway", "meter", "control"))
    assert set(stop_layers(parts)[0]) == {"gateway", "control"}
    assert "meter" in stop_layers(parts)[1], "it ships what the last requests used"
    assert {"demo-models", "launcher", "ray"} < set(stop_layers(parts)[1])
    assert stop_layers(parts)[2] == ("redis",)


def test_servers_of_the_operators_own_are_not_started(home: Home) -> None:
    parts = by_name(all_parts(installation(home, own_redis=True, ray_address="10.0.0.7:6379")))
    assert parts.keys() == {"launcher", "gateway", "meter", "control"}
    assert parts["control"].needs == parts["gateway"].needs == parts["control"].follows == ()
    assert parts["control"].command[-2:] == ("--ray-address", "10.0.0.7:6379")
    assert "RAY_AUTH_TOKEN_PATH" not in {name for name in parts["control"].env if name not in os.environ}


LED = Cluster(role="head", head="127.0.0.2", identity="me", port=9000)
JOINED = Cluster(role="node", head="127.0.0.2", identity="you", port=9000)


def test_a_head_has_a_door_and_is_where_the_others_reach_it(home: Home) -> None:
    parts = by_name(all_parts(installation(home, cluster=LED)))
    assert parts.keys() == {"launcher", "redis", "ray", "door", "gateway", "meter", "control"}
    assert "--node-ip-address=127.0.0.2" in parts["ray"].command
    address = parts["control"].command[parts["control"].command.index("--ray-address") + 1]
    assert address == "127.0.0.2:9001"
    for part_ in ("ray", "control"):
        assert parts[part_].env["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "1", "else Ray would stay on loopback"
    assert set(installation(home, cluster=LED).listens) == {
        ("127.0.0.1", 8000), ("127.0.0.2", 9000), ("127.0.0.2", 9001), ("127.0.0.2", 9002),
    }  # fmt: skip
    assert ("127.0.0.2", 9002) not in installation(home, cluster=LED, own_redis=True).listens


@pytest.mark.parametrize("serves", [False, True])
def test_a_node_has_a_launcher_and_its_membership_and_a_gateway_if_it_is_to_serve(home: Home, serves: bool) -> None:
    this = installation(home, cluster=JOINED, serves=serves, own_redis=True)
    parts = by_name(all_parts(this))
    assert parts.keys() == {"launcher", "member", *(["gateway", "meter"] if serves else [])}
    assert all(part_.needs == part_.follows == () for part_ in parts.values())
    assert {name for name, part_ in parts.items() if part_.outlives} == ({"meter"} if serves else set())
    assert parts["member"].takes_all, "Ray's processes are below it"
    assert this.listens == ((("127.0.0.1", 8000),) if serves else ())


def test_all_nodes_have_the_same_token_which_follows_from_the_secret(home: Home) -> None:
    shared = secret.make(home.cluster_secret)
    env = ray_head.environment(home, JOINED)
    path = Path(env["RAY_AUTH_TOKEN_PATH"])
    assert path.read_text() == secret.key(shared, "ray")
    assert path.stat().st_mode & 0o777 == 0o600
    home.cluster_secret.write_text("6" * 64)
    ray_head.environment(home, JOINED)
    assert path.read_text() == secret.key("6" * 64, "ray"), "a new secret makes a new token"
    assert ray_head.environment(home)["RAY_AUTH_TOKEN_PATH"] != str(path), "alone it has one of its own"


def test_only_on_a_node_does_ray_wait_long_for_a_head(home: Home) -> None:
    waits = "RAY_gcs_rpc_server_reconnect_timeout_s"
    assert int(ray_head.environment(home, JOINED)[waits]) > 24 * 3600
    assert waits not in ray_head.environment(home, LED)
    assert waits not in ray_head.environment(home)


def test_rays_node_is_told_its_address_and_its_ports(home: Home) -> None:
    command = ray_head.node_command(home, JOINED, "127.0.0.3")
    assert {"--address=127.0.0.2:9001", "--node-ip-address=127.0.0.3", "--object-manager-port=9004"} <= set(command)
    assert "--head" not in command


def test_the_name_of_a_node_goes_with_all_its_parts(home: Home) -> None:
    NodeFile(name="gpu7", address="127.0.0.3").write(home.node_file)
    assert {part_.env["ROUNDHOUSE_NODE"] for part_ in all_parts(installation(home, cluster=JOINED))} == {"gpu7"}


def test_the_session_of_the_head_is_known_while_it_runs(home: Home) -> None:
    ray_head.prepare(home)
    (home.ray / "session_latest").symlink_to(home.ray / "session_7")
    assert ray_head.session(home) is None, "it is only being started"
    ray_head.started_file(home).touch()
    assert ray_head.session(home) == "session_7"


def test_control_begins_anew_with_ray(home: Home) -> None:
    parts = by_name(all_parts(installation(home)))
    assert parts["control"].follows == ("ray",)
    assert parts["ray"].takes_all
    assert not parts["launcher"].takes_all, "engines outlive their launcher"
    address = parts["control"].command[parts["control"].command.index("--ray-address") + 1]
    assert f"--port={address.split(':')[1]}" in parts["ray"].command, "both know the same port"


def test_options_get_to_the_parts_that_they_are_for(home: Home) -> None:
    limits = Limits(hold_timeout_s=5, hold_limit=7, max_body_bytes=1024, drain_timeout_s=9)
    gateway = GatewayOptions(host="0.0.0.0", port=9000, workers=3, limits=limits)
    parts = by_name(all_parts(installation(home, gateway=gateway, gpus="2x1GiB")))
    assert parts["control"].command[-2:] == ("--gpus", "2x1GiB")
    command = " ".join(parts["gateway"].command)
    assert "--host 0.0.0.0 --port 9000 --workers 3" in command
    assert "--max-body 1024 --drain-timeout 9 --hold-timeout 5 --hold-limit 7" in command
    assert parts["gateway"].stop_grace_s > 9, "nobody is killed who still has time"


def test_every_part_can_be_run_alone(home: Home) -> None:
    for name in part_names():
        alone = part(installation(home), name)
        assert alone.name == name
        assert alone.command[0] == sys.executable


def test_every_process_of_every_part_can_be_found_later(home: Home) -> None:
    for each in all_parts(installation(home, demo_models=home.models)):
        assert each.env[INSTANCE_ENV] == home.instance
        assert each.env["SPT_NOENV"] == "1", "or Ray and vLLM would write over the mark"


def test_the_environment_of_the_parts(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://elsewhere:10001")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("KEPT", "yes")
    env = environment(home)
    assert "RAY_ADDRESS" not in env
    assert env["KEPT"] == "yes"
    assert env["PYTHONPATH"].split(os.pathsep) == [str(SOURCE_ROOT), "/somewhere"]
    assert env["ROUNDHOUSE_HOME"] == str(home.root)


def test_the_source_tree_is_found_where_it_is() -> None:
    assert (SOURCE_ROOT / "models" / "home.py").is_file()


@pytest.mark.parametrize(("host", "at"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.1.2.3", "10.1.2.3")])
def test_where_a_listener_can_be_reached(host: str, at: str) -> None:
    assert reachable(host) == at


def test_rays_token_is_made_once_and_private(home: Home) -> None:
    path = Path(ray_head.environment(home)["RAY_AUTH_TOKEN_PATH"])
    token = path.read_text()
    assert len(token) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    assert Path(ray_head.environment(home)["RAY_AUTH_TOKEN_PATH"]).read_text() == token
    assert path.stat().st_mode & 0o777 == 0o600


def test_rays_port_is_kept_until_it_is_chosen_again(home: Home) -> None:
    first = ray_head.address(home)
    assert ray_head.address(home) == first
    (home.run / "ray.port").write_text("not a port")
    assert ray_head.address(home).startswith("127.0.0.1:")
    ray_head.choose_port_again(home)
    assert not (home.run / "ray.port").exists()


def test_what_an_earlier_head_has_left_is_cleared_away(home: Home) -> None:
    ray_head.prepare(home)
    ray_head.started_file(home).write_text("127.0.0.1:1")
    (home.ray / "session_latest").symlink_to(home.ray / "gone")
    ray_head.prepare(home)
    assert list(home.ray.iterdir()) == []
    assert home.ray.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("value", "address"), [("", None), ("  ", None), (" 10.0.0.1:6379 ", "10.0.0.1:6379")])
def test_an_outside_cluster_is_named_by_the_environment(value: str, address: str | None) -> None:
    assert ray_head.outside_address({"ROUNDHOUSE_RAY_ADDRESS": value}) == address
