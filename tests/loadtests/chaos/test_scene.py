from __future__ import annotations

from pathlib import Path

from loadtests.chaos.scene import (
    BIG_KV_MIB,
    BIGS,
    COLD,
    COLD_KV_MIB,
    GPU_MIB,
    GPUS,
    OVERHEAD_MIB,
    STEADY,
    STEADY_KV_MIB,
    STEADY_REPLICAS,
    WEIGHTS_MIB,
    WORKERS,
    model_of,
    models,
    most_replicas,
    write_config,
)
from models.catalog.config import load_config

FIXED_MIB = WEIGHTS_MIB + OVERHEAD_MIB
STEADY_MIB, COLD_MIB, BIG_MIB = FIXED_MIB + STEADY_KV_MIB, FIXED_MIB + COLD_KV_MIB, FIXED_MIB + BIG_KV_MIB


def test_the_configuration_is_one(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    write_config(tmp_path / "chaos.yaml", tmp_path / "weights")
    config = load_config(tmp_path / "chaos.yaml")
    assert tuple(str(card.model_id) for card in config.models) == models()
    steady = config.models[0]
    assert (steady.min_replicas, steady.max_replicas) == (STEADY_REPLICAS, STEADY_REPLICAS)
    assert {card.max_replicas for card in config.models[1:]} == {most_replicas(COLD)}
    assert config.gateway.workers == WORKERS


def test_one_that_is_big_has_no_room_left_whichever_way_the_others_lie() -> None:
    together = [GPU_MIB - STEADY_REPLICAS * STEADY_MIB, GPU_MIB - BIG_MIB]  # and one of the big ones
    apart = [GPU_MIB - STEADY_MIB - BIG_MIB] * GPUS  # a big one on each
    assert max(together) < BIG_MIB
    assert max(apart) < BIG_MIB


def test_one_that_is_started_has_room_without_taking_any_away() -> None:
    assert GPU_MIB - STEADY_REPLICAS * STEADY_MIB >= COLD_MIB
    assert GPU_MIB - STEADY_MIB >= COLD_MIB


def test_the_model_of_a_replica_is_in_its_name() -> None:
    assert model_of("steady-0a1b2c") == STEADY
    assert model_of("big-a-0a1b2c") == BIGS[0]
    assert model_of("tiny-llama-0a1b2c") == ""
