from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from models.demo.catalog import demo_config_text
from models.demo.make import make_demo_models
from tests.e2e.service import Service, free_port, temporary_home


@pytest.fixture(scope="session")
def demo_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    make_demo_models(root, progress=print)
    return root


@pytest.fixture(scope="session")
def broken_models(demo_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of the small model, each broken in one way."""
    root = tmp_path_factory.mktemp("broken")
    made = {}
    for name in ("truncated", "lacks-tensors"):
        made[name] = Path(shutil.copytree(demo_models / "tiny-llama", root / name))
    weights = made["truncated"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    _drop_a_tensor(made["lacks-tensors"] / "model.safetensors")
    made["missing"] = root / "not-there"
    return made


def _drop_a_tensor(weights: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    tensors.pop(next(name for name in sorted(tensors) if "down_proj" in name))
    save_file(tensors, weights, metadata={"format": "pt"})


@pytest.fixture(scope="session")
def config(demo_models: Path, broken_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's configuration, and models that cannot be served for one reason each."""
    config = yaml.safe_load(demo_config_text(demo_models))
    small = next(card for card in config["models"] if card["model_id"] == "tiny-llama")
    base = {**small, "aliases": [], "min_replicas": 0}
    config["models"] += [
        {**base, "model_id": "never-fits", "declared": {"weights": "100GiB", "kv_cache": "1GiB"}},
        {**base, "model_id": "wrong-argument", "engine_args": {"max_modle_len": 128}},
        *({**base, "model_id": name, "model_source": str(path)} for name, path in broken_models.items()),
    ]
    path = tmp_path_factory.mktemp("config") / "roundhouse.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="session")
def service(config: Path) -> Iterator[Service]:
    """One service for all tests that leave it as they found it."""
    with temporary_home() as home:
        running = Service(home, free_port())
        try:
            running.up("--config", str(config))
            yield running
        finally:
            running.down()
