"""The benchmark's installation is one that the service takes, with room for all that is to run at once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from loadtests.coldstart import scene
from loadtests.coldstart.scene import CROWD, CROWD_REPLICAS, SIZES, make_models, swarm_names, write_config
from loadtests.wire import CallFailed
from models.catalog.config import ServiceConfig, load_config
from models.demo.make import BENCHMARK_MAKERS, MAKERS


def config(tmp_path: Path, swarm: int = 100) -> ServiceConfig:
    write_config(tmp_path / "bench.yaml", {sized.name: tmp_path / sized.name for sized in SIZES}, swarm)
    return load_config(tmp_path / "bench.yaml")


def test_the_service_takes_the_configuration(tmp_path: Path) -> None:
    cards = {card.model_id: card for card in config(tmp_path).models}
    assert set(cards) == {sized.name for sized in SIZES} | {CROWD, *swarm_names(100)}
    assert cards[CROWD].max_replicas == CROWD_REPLICAS
    assert cards[CROWD].target_in_flight == 1


def test_a_hundred_engines_fit_at_once(tmp_path: Path) -> None:
    loaded = config(tmp_path)
    room = scene.GPUS * scene.GPU_MIB << 20
    swarm = [card for card in loaded.models if card.model_id in swarm_names(100)]
    assert sum(card.footprint(None).gpu_bytes for card in swarm) < room


def test_every_size_has_a_recipe() -> None:
    assert {sized.name for sized in SIZES} <= {*MAKERS, *BENCHMARK_MAKERS}


def test_models_are_made_by_the_demo(tmp_path: Path) -> None:
    folders = make_models(tmp_path, ["tiny-llama"])
    assert (folders["tiny-llama"] / "model.safetensors").stat().st_size > 10_000_000


def test_models_that_cannot_be_made_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "error: the disk is full\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(CallFailed, match="the disk is full"):
        make_models(tmp_path, ["tiny-llama"])
