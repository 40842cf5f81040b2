from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from models.demo.catalog import demo_config_text
from models.demo.make import make_demo_models
from tests.cluster.hosts import Network, until
from tests.cluster.machines import Machine, all_ready


@dataclass(frozen=True)
class Cluster:
    """``b`` answers requests as well. Three replicas of one model, each on a machine of its own."""

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
def cluster(config: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """In a module that sets ``SPARE``, ``a`` has room for two, and so has ``b``, which joins when all three run."""
    with Network() as net:
        head, a, b = (Machine(net.host(name)) for name in ("head", "a", "b"))
        spare = getattr(request.module, "SPARE", False)
        gpus = ("--gpus", "2x320MiB" if spare else "1x320MiB")
        with ThreadPoolExecutor() as together:
            leading = together.submit(head.up, config)
            until(head.admits, 120, what="the head lets others join")
            first = together.submit(a.join, head, *gpus, "--pool", "a")
            if spare:
                leading.result()
                all_ready(head, 3, 180)
            second = together.submit(b.join, head, *gpus, *b.gateway)
            for each in (leading, first, second):
                each.result()
        a.keys = b.keys = head.keys
        all_ready(head, 3, 120)
        yield Cluster(head, a, b, net, config)
