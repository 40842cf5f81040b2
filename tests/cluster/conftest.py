from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from models.demo.catalog import demo_config_text
from models.demo.make import make_demo_models
from tests.cluster.hosts import Network
from tests.cluster.machines import Machine, all_ready


@dataclass(frozen=True)
class Cluster:
    """``b`` answers requests as well, and has a GPU to spare. Three replicas of one model, each on its own machine."""

    head: Machine
    a: Machine
    b: Machine
    net: Network
    config: Path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One chat model, wanted three times; a GPU has room for one of them."""
    models = tmp_path_factory.mktemp("models")
    make_demo_models(models, only=["tiny-llama"], progress=lambda _: None)
    config = yaml.safe_load(demo_config_text(models))
    (card,) = (card for card in config["models"] if card["model_id"] == "tiny-llama")
    card |= {
        "min_replicas": 3,
        "max_replicas": 3,
        "declared": {"weights": "16MiB", "kv_cache": "96MiB", "overhead": "128MiB"},
    }
    config |= {"models": [card], "gpus": {"simulated": "1x320MiB"}}
    path = tmp_path_factory.mktemp("config") / "roundhouse.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def cluster(config: Path) -> Iterator[Cluster]:
    with Network() as net:
        head, a, b = (Machine(net.host(name)) for name in ("head", "a", "b"))
        head.up(config)
        for number, (machine, gpus, *gateway) in enumerate(((a, "1x320MiB"), (b, "2x320MiB", *b.gateway)), start=2):
            machine.join(head, "--gpus", gpus, "--pool", machine.name, *gateway)
            all_ready(head, number)
        yield Cluster(head, a, b, net, config)
