"""The demo's configuration: valid, readable, and made so that the packer has something to decide."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import yaml

from models.catalog.capabilities import capabilities_of
from models.catalog.config import load_config
from models.catalog.service import ServiceConfig
from models.demo.catalog import DEMO_CARDS, SIMULATED_GPU_MIB, SIMULATED_GPUS, demo_config_text
from models.demo.chat import TINY_GEMMA, TINY_LLAMA, TINY_QWEN, ChatRecipe
from models.demo.make import MAKERS

MIB = 2**20
GPU = SIMULATED_GPU_MIB * MIB
RECIPES = {"tiny-llama": TINY_LLAMA, "tiny-gemma": TINY_GEMMA, "tiny-qwen3": TINY_QWEN}


@pytest.fixture(scope="module")
def config(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> ServiceConfig:
    file = tmp_path_factory.mktemp("config") / "roundhouse.yaml"
    file.write_text(demo_config_text(demo_root), encoding="utf-8")
    return load_config(file)


def footprints(config: ServiceConfig) -> dict[str, int]:
    return {card.model_id: card.footprint(None).gpu_bytes for card in config.models}


def test_it_serves_every_demo_model_from_its_folder(config: ServiceConfig, demo_root: Path) -> None:
    assert {card.model_id: Path(card.model_source) for card in config.models} == {
        name: demo_root / name for name in MAKERS
    }
    assert {card.runtime for card in config.models if card.model_id in RECIPES} == {"vllm"}
    for card in config.models:
        if card.model_id not in RECIPES:
            assert (card.runtime, card.engine_args, card.allow_code) == ("torch", {}, None), card.model_id


def test_every_task_of_the_shipped_classes_is_in_it(config: ServiceConfig, demo_root: Path) -> None:
    found = {capabilities_of(card, demo_root / card.model_id)[0] for card in config.models}
    assert found == {"generate", "embed", "score", "classify", "image", "speech", "transcribe"}


def test_each_model_fits_a_gpu(config: ServiceConfig) -> None:
    assert config.simulated_gpus == (GPU,) * SIMULATED_GPUS
    assert max(footprints(config).values()) <= GPU


def test_all_of_them_never_fit_at_once(config: ServiceConfig) -> None:
    needed = footprints(config)
    assert sum(needed.values()) > SIMULATED_GPUS * GPU
    for count in range(len(needed) + 1):
        for first in combinations(needed, count):
            second = [name for name in needed if name not in first]
            loads = [sum(needed[name] for name in names) for names in (first, second)]
            assert max(loads) > GPU, f"{first} and {second} fit"


def test_two_small_ones_share_a_gpu(config: ServiceConfig) -> None:
    needed = footprints(config)
    for pair in combinations(set(needed) - {"tiny-qwen3"}, 2):
        assert sum(needed[name] for name in pair) <= GPU


@pytest.mark.parametrize(("name", "recipe"), RECIPES.items())
def test_the_kv_cache_holds_several_full_conversations(config: ServiceConfig, name: str, recipe: ChatRecipe) -> None:
    card = config.card(name)
    assert card is not None
    length = card.engine_args["max_model_len"]
    assert isinstance(length, int)
    assert card.footprint(None).kv_cache_bytes >= 8 * length * recipe.shape.kv_bytes_per_token


def test_the_declared_weights_are_enough_for_the_files(config: ServiceConfig, demo_root: Path) -> None:
    for card in config.models:
        weights_bytes = (demo_root / card.model_id / "model.safetensors").stat().st_size
        declared = card.footprint(None).weights_bytes
        assert weights_bytes <= declared < max(2 * weights_bytes, 2 * MIB), card.model_id


def test_tool_calls_are_on_and_held_to_their_schema(config: ServiceConfig) -> None:
    for name in RECIPES:
        card = config.card(name)
        assert card is not None
        asked = {key: card.engine_args.get(key) for key in ("enable_auto_tool_choice", "tool_call_parser")}
        assert asked == {"enable_auto_tool_choice": True, "tool_call_parser": "hermes"}
        assert card.engine_args["tool_strict_level"] == "parameter"


def test_a_spike_takes_several_replicas_and_there_is_room_for_them(config: ServiceConfig) -> None:
    card = config.card("tiny-llama")
    assert card is not None
    assert card.target_in_flight == card.engine_args["max_num_seqs"], "a replica is full when the next one is wanted"
    assert card.max_replicas * card.footprint(None).gpu_bytes <= SIMULATED_GPUS * GPU
    assert card.max_replicas > 2


def test_people_are_told_what_each_line_is_for(demo_root: Path) -> None:
    text = demo_config_text(demo_root)
    for card in DEMO_CARDS:
        assert f"# {card.model_id}: {card.about}" in text
        assert f"# {card.footprint_mib} MiB of a GPU" in text
    assert "On a machine with NVIDIA GPUs remove this line" in text


@pytest.mark.parametrize("root", ["models", "/srv/my models: #1", "/srv/\"quoted\" 'models'", "/srv/modèles 🚂"])
def test_a_folder_may_have_any_name(root: str) -> None:
    cards = yaml.safe_load(demo_config_text(Path(root)))["models"]
    assert [card["model_source"] for card in cards] == [f"{root}/{name}" for name in MAKERS]
