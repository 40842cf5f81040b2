"""Every peer is started as its documentation says, on one core; a missing one is named with its cure."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from loadtests.gateway import peers
from loadtests.gateway.problems import CannotMeasure
from loadtests.gateway.scene import Scene, Subject, ask, get, started
from loadtests.gateway.traffic import MODELS
from tests.loadtests.gateway.conftest import EVERYWHERE
from tests.loadtests.gateway.subjects import scene

BY_NAME = {peer.name: peer for peer in peers.PEERS}


def two_engines(folder: Path, installed: Path | None = None) -> Scene:
    return Scene(folder, (7001, 7002), "rh-key", EVERYWHERE, installed)


def install(folder: Path, peer: str, program: str) -> Path:
    file = folder / peer / "bin" / program
    file.parent.mkdir(parents=True)
    file.touch()
    return file


def test_all_that_the_goals_name_are_there() -> None:
    assert list(BY_NAME) == ["nginx", "haproxy", "vllm-router", "sglang-router", "ray-serve", "litellm"]


def test_nobody_is_missing_without_a_reason_and_a_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(peers, "SYSTEM_FOLDERS", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    told = {name: peer.missing(two_engines(tmp_path)) for name, peer in BY_NAME.items()}
    assert told["nginx"] == "not installed; `apt install nginx` brings it"
    assert told["ray-serve"] == "the package ray is not installed"
    assert all(why and "make bench-peers" in why for name, why in told.items() if "router" in name or name == "litellm")


@pytest.mark.parametrize(
    ("name", "program"), [("vllm-router", "vllm-router"), ("sglang-router", "python"), ("litellm", "litellm")]
)
def test_installed_peers_are_found_in_their_folder(tmp_path: Path, name: str, program: str) -> None:
    missing = BY_NAME[name].missing(two_engines(tmp_path, tmp_path))
    assert missing is not None
    assert f"PEERS={tmp_path}" in missing
    file = install(tmp_path, name, program)
    assert BY_NAME[name].missing(two_engines(tmp_path, tmp_path)) is None
    command = BY_NAME[name].command(two_engines(tmp_path, tmp_path), 8123, tmp_path)
    assert command[0] == str(file)
    assert "8123" in command


def test_routers_take_turns_among_all_engines(tmp_path: Path) -> None:
    for name in ("vllm-router", "sglang-router"):
        command = list(BY_NAME[name].command(two_engines(tmp_path, tmp_path), 8123, tmp_path))
        assert command[command.index("--policy") + 1] == "round_robin"
        assert command[-2:] == ["http://127.0.0.1:7001", "http://127.0.0.1:7002"]


def test_litellm_knows_every_model_on_every_engine(tmp_path: Path) -> None:
    BY_NAME["litellm"].command(two_engines(tmp_path, tmp_path), 8123, tmp_path)
    models = yaml.safe_load((tmp_path / "litellm.yaml").read_text())["model_list"]
    assert {(each["model_name"], each["litellm_params"]["api_base"]) for each in models} == {
        (name, f"http://127.0.0.1:{port}/v1") for name in MODELS for port in (7001, 7002)
    }


def test_litellm_can_stand_before_other_models_too(tmp_path: Path) -> None:
    place = Scene(tmp_path, (7001,), "", EVERYWHERE, tmp_path, names=("tiny-llama",))
    BY_NAME["litellm"].command(place, 8123, tmp_path)
    (model,) = yaml.safe_load((tmp_path / "litellm.yaml").read_text())["model_list"]
    assert model["model_name"] == "tiny-llama"
    assert model["litellm_params"]["model"] == "openai/tiny-llama"


def test_ray_writes_into_its_own_folder_only(tmp_path: Path) -> None:
    environ = BY_NAME["ray-serve"].environ(tmp_path)
    assert environ["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert environ["RAY_SERVE_HAPROXY_NBTHREAD"] == "1"
    assert environ["RAY_SERVE_HAPROXY_SOCKET_PATH"].startswith(str(tmp_path))


@pytest.mark.parametrize(("name", "check"), [("nginx", ["-t"]), ("haproxy", ["-c"])])
def test_the_proxies_take_their_configuration(tmp_path: Path, name: str, check: list[str]) -> None:
    """Where they are installed; elsewhere that is what is told."""
    peer: Subject = BY_NAME[name]
    if why := peer.missing(two_engines(tmp_path)):
        assert f"apt install {name}" in why
        return
    command = [*peer.command(two_engines(tmp_path), 8123, tmp_path), *check]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_the_proxies_hand_requests_on(engine: int | None, tmp_path: Path, name: str) -> None:
    peer: Subject = BY_NAME[name]
    if engine is None or peer.missing(scene(tmp_path, 1)):
        return
    with started(peer, scene(tmp_path, engine)) as running:
        assert ask(running.port, "rh-key") == 200
        assert "served" in get(running.port, "/stats")


def test_a_peer_that_does_not_start_is_one_that_cannot_be_measured(tmp_path: Path) -> None:
    file = install(tmp_path, "litellm", "litellm")
    file.write_text("#!/bin/sh\necho no such option\nexit 2\n")
    file.chmod(0o700)
    with (
        pytest.raises(CannotMeasure, match="ended with 2:\nno such option"),
        started(BY_NAME["litellm"], scene(tmp_path, 1, tmp_path)),
    ):
        pytest.fail("it cannot have started")
