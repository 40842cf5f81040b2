"""What ``--start`` starts: with the model's files, on loopback, gone afterwards; who is missing is told with a cure."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from loadtests.coldstart import service as own_service
from loadtests.coldstart.passes import first_token_s
from loadtests.compare import ray_llm, startable
from loadtests.compare.engine_args import engine_args
from loadtests.compare.place import Place
from loadtests.compare.startable import RAY_LLM, STARTABLE, roundhouse_config, vllm_command
from loadtests.gateway.problems import DidNotStart
from loadtests.target import Target
from loadtests.wire import NotReachable
from tests.loadtests.compare.conftest import ROOT, stand_in

At = Callable[..., Place]
COLDSTART_STAND_IN = ROOT / "tests" / "loadtests" / "coldstart" / "stand_in.py"


def test_the_issues_peers_and_the_gateways_can_be_started() -> None:
    assert {"plain-vllm", "litellm", "ray-serve-llm", "vllm-router", "roundhouse"} <= set(STARTABLE)


def test_whoever_is_not_installed_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("loadtests.gateway.peers.SYSTEM_FOLDERS", str(tmp_path))
    monkeypatch.setattr(startable, "_no_vllm", lambda _peers=None: None)
    told = {name: STARTABLE[name].missing(tmp_path) for name in STARTABLE}
    for name in ("litellm", "vllm-router", "sglang-router", RAY_LLM):
        assert told[name] == f"not installed in {tmp_path}; `make bench-peers PEERS={tmp_path}` does it"
        assert "--peers DIR" in (STARTABLE[name].missing(None) or "")
    assert told["nginx"] == "not installed; `apt install nginx` brings it"


def test_without_vllm_nothing_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    for name, each in STARTABLE.items():
        assert "roundhouse-serve[cpu]" in (each.missing(tmp_path) or ""), name


def test_an_installed_peer_is_not_missing(peers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startable, "_no_vllm", lambda _peers=None: None)
    (peers / RAY_LLM / "bin").mkdir(parents=True)
    (peers / RAY_LLM / "bin" / "python").touch()
    assert STARTABLE["litellm"].missing(peers) is STARTABLE[RAY_LLM].missing(peers) is None


def test_vllm_is_started_with_the_files_the_name_and_the_arguments(place: At, weights: Path) -> None:
    words = vllm_command(place(engine_args=engine_args("enforce_eager,max_model_len=64")), 81)
    assert words[:3] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    given = dict(zip(words[3:11:2], words[4:11:2], strict=True))
    assert given == {
        "--model": str(weights), "--served-model-name": "llama", "--host": "127.0.0.1", "--port": "81",
    }  # fmt: skip
    assert words[11:] == ["--enforce-eager", "--max-model-len", "64"]


@pytest.mark.usefixtures("tiny_vllm")
def test_plain_vllm_answers_and_is_gone_afterwards(place: At) -> None:
    with STARTABLE["plain-vllm"].started(place()) as target:
        assert target.loopback
        assert first_token_s(target, "llama") > 0
    with pytest.raises(NotReachable):
        first_token_s(target, "llama")


@pytest.mark.usefixtures("tiny_vllm")
def test_a_peer_has_one_plain_vllm_behind_it(place: At, peers: Path, tmp_path: Path) -> None:
    with STARTABLE["litellm"].started(place(peers=peers)) as target:
        assert first_token_s(target, "llama") > 0
        config = yaml.safe_load((tmp_path / "litellm" / "litellm.yaml").read_text())
        (model,) = config["model_list"]
        engine = Target(model["litellm_params"]["api_base"].removesuffix("/v1"))
        assert first_token_s(engine, "llama") > 0
    assert model["model_name"] == "llama"
    for each in (target, engine):
        with pytest.raises(NotReachable):
            first_token_s(each, "llama")


@pytest.mark.usefixtures("tiny_vllm")
def test_a_peer_that_ends_is_told_with_its_log(place: At, peers: Path) -> None:
    (peers / "litellm" / "bin" / "litellm").write_text("#!/bin/sh\necho no such option\nexit 2\n")
    with (
        pytest.raises(DidNotStart, match=r"litellm ended with 2:\nno such option"),
        STARTABLE["litellm"].started(place(peers=peers)),
    ):
        pytest.fail("it cannot have started")


def test_one_that_never_answers_is_given_up(place: At, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import time; print('still loading', flush=True); time.sleep(600)"
    monkeypatch.setattr(startable, "vllm_command", lambda *_: [sys.executable, "-c", code])
    with (
        pytest.raises(DidNotStart, match=r"plain-vllm gave no answer within 0\.5 s"),
        STARTABLE["plain-vllm"].started(place(start_timeout_s=0.5)),
    ):
        pytest.fail("it cannot have started")


def test_a_model_that_is_not_served_is_no_answer(place: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startable, "vllm_command", lambda _place, port: stand_in("server", str(port), "another"))
    with (
        pytest.raises(DidNotStart, match=r"404 model_not_found: The model 'llama' does not exist"),
        STARTABLE["plain-vllm"].started(place(start_timeout_s=2.0)),
    ):
        pytest.fail("it cannot have started")


def test_roundhouse_is_a_service_of_its_own(place: At, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command = ("/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, str(COLDSTART_STAND_IN))
    cut_short = functools.partial(OwnWithoutConfig, command=command)
    monkeypatch.setattr(startable, "OwnService", cut_short)
    with STARTABLE["roundhouse"].started(place()) as target:
        assert target.admin_key
        assert first_token_s(target, "llama") > 0
    assert json.loads((tmp_path / "roundhouse.yaml").read_text())["models"][0]["model_id"] == "llama"
    with pytest.raises(NotReachable):
        first_token_s(target, "llama")


class OwnWithoutConfig(own_service.OwnService):
    """The stand-in reads no configuration."""

    def __init__(self, home: Path, port: int, command: tuple[str, ...], config: Path) -> None:
        assert config.exists()
        super().__init__(home, port, command)


def test_roundhouse_has_as_many_engines_as_the_others(place: At, weights: Path) -> None:
    (card,) = roundhouse_config(place(engine_args={"max_model_len": 64}))["models"]  # type: ignore[misc]
    assert card["model_source"] == str(weights)  # type: ignore[has-type]
    assert card["engine_args"] == {"max_model_len": 64}  # type: ignore[has-type]
    assert card["max_replicas"] == 1  # type: ignore[has-type]


@pytest.mark.parametrize("gpu", [True, False])
def test_ray_serves_one_replica_and_collects_no_tokens(gpu: bool) -> None:
    found = ray_llm.config("/models/llama", "llama", {"max_model_len": 64}, gpu)
    assert found["model_loading_config"] == {"model_id": "llama", "model_source": "/models/llama"}
    assert found["engine_kwargs"] == {"max_model_len": 64}
    assert found["deployment_config"]["autoscaling_config"] == {"min_replicas": 1, "max_replicas": 1}
    assert found["experimental_configs"] == {"stream_batching_interval_ms": 0}
    assert ("placement_group_config" in found) == (not gpu)


def test_ray_runs_in_the_environment_that_has_what_it_asks_for(place: At, tmp_path: Path) -> None:
    program = tmp_path / "peers" / RAY_LLM / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$PATH" | cut -d: -f1; env | grep -c ^ROUNDHOUSE_; echo "$@"; exit 3\n')
    program.chmod(0o700)
    with pytest.raises(DidNotStart) as told, STARTABLE[RAY_LLM].started(place(peers=tmp_path / "peers")):
        pytest.fail("it cannot have started")
    first, path, kept, words = str(told.value).splitlines()
    assert first == "ray-serve-llm ended with 3:"
    assert (path, kept) == (str(program.parent), "0")
    assert words.startswith("-m loadtests.compare.ray_llm --port ")
    assert "--engine-args {}" in words
