"""A model whose folder is on the head alone, run on another machine: its weights come from the head, over the network.

The hosts of these tests share a disk; the second one sees an empty folder where the head has the models.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.demo.catalog import demo_config_text
from models.demo.make import make_demo_models
from tests.cluster.hosts import Host, Network, until
from tests.cluster.machines import Machine, all_ready, callers

pytestmark = [pytest.mark.e2e, pytest.mark.chaos, pytest.mark.long]
MODEL = "tiny-llama"
HIDE = 'mount -t tmpfs none "$1" && shift && exec "$@"'


class Blind(Machine):
    """Whatever it starts sees nothing of ``folder``."""

    def __init__(self, host: Host, folder: Path) -> None:
        super().__init__(host)
        start = host.start

        def hidden(*words: str, **options: Any) -> subprocess.Popen[str]:
            return start("unshare", "--mount", "sh", "-c", HIDE, "sh", str(folder), *words, **options)

        host.start = hidden  # type: ignore[method-assign]


@dataclass(frozen=True)
class Pair:
    head: Machine
    node: Machine
    models: Path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The model is wanted twice, and fits once on the head: the second is on the node."""
    models = tmp_path_factory.mktemp("models")
    make_demo_models(models, only=[MODEL], progress=lambda _: None)
    config = yaml.safe_load(demo_config_text(models))
    (card,) = (card for card in config["models"] if card["model_id"] == MODEL)
    card |= {"min_replicas": 2, "max_replicas": 2, "anti_affinity": [MODEL]}
    config |= {"models": [card], "gpus": {"simulated": "1x640MiB"}}
    path = tmp_path_factory.mktemp("config") / "roundhouse.yaml"
    path.write_text(yaml.safe_dump(config))
    with Network() as net:
        head, node = Machine(net.host("head")), Blind(net.host("w"), models)
        head.up(path)
        all_ready(head, 1)
        node.join(head, "--gpus", "1x640MiB")
        all_ready(head, 2)
        yield Pair(head, node, models)


def weights(machine: Machine, node: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = machine.done("weights", "list", "--node", node)["data"]
    return found


def test_the_node_has_fetched_it_from_the_head_and_serves_it(pair: Pair) -> None:
    (copy,) = (item for item in weights(pair.head, "w") if item["kind"] == "download")
    assert copy["source"] == str(pair.models / MODEL)
    assert copy["path"].startswith(str(pair.node.host.home))
    own = weights(pair.head, "head")
    assert [item["kind"] for item in own if item["source"] == str(pair.models / MODEL)] != ["download"]
    with callers([pair.head] * 4, every_s=0.0) as calls:
        until(lambda: pair.node.served() > 0, 60, what="the node has answered")
    assert calls.failed == []


def test_what_changes_on_the_head_is_fetched_by_the_next_start(pair: Pair) -> None:
    """The copy from before is of no use to anybody any more, and goes."""
    config = pair.models / MODEL / "config.json"
    config.write_text(config.read_text() + "\n")
    (engine,) = (one for one in pair.head.replicas().values() if one["node"] == "w")
    os.kill(engine["pid"], signal.SIGKILL)

    def renewed() -> bool:
        copies = [item for item in weights(pair.head, "w") if item["kind"] == "download"]
        ready = {one["node"]: one["pid"] for one in pair.head.replicas().values()}
        anew = ready.get("w") not in (None, engine["pid"])
        return anew and bool(copies) and _newest(copies) == config.read_text()

    until(renewed, 60, what="the node runs what the head has now")


def _newest(copies: list[dict[str, Any]]) -> str:
    newest = max(copies, key=lambda item: item["used_unix_s"] or 0.0)
    return (Path(newest["path"]) / "config.json").read_text()


def test_the_controller_comes_back_where_the_configuration_is(pair: Pair) -> None:
    """Left to itself, Ray would put it on any machine, at each of its restarts."""
    for _ in range(3):
        (old,) = pair.head.host.pids("ray::ControllerActor")
        os.kill(old, signal.SIGKILL)
        until(lambda: set(pair.head.host.pids("ray::ControllerActor")) - {old}, 60, what="it is back on the head")  # noqa: B023
        assert pair.node.host.pids("ray::ControllerActor") == []
    until(lambda: len(pair.head.replicas()) == 2, 60, what="it has taken over")
