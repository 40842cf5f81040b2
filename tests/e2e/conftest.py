from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.demo.catalog import demo_config_text
from models.demo.make import make_demo_models
from tests.e2e.bad_models import bad_cards, spoil_copies
from tests.e2e.browser import Browser, browser, program
from tests.e2e.service import Service, free_port, temporary_home
from tests.models.runtimes.adapters import make_adapter

# Slow enough to be left in the middle of an answer, and with a queue that one request fills.
ONE_AT_A_TIME = {
    "model_id": "one-at-a-time",
    "aliases": [],
    "engine_args": {"max_model_len": 1024, "max_num_seqs": 1},
}
# Stacks of adapters take some memory of their own.
ADAPTED = {
    "model_id": "adapted",
    "aliases": ["with-adapters"],
    "declared": {"weights": "16MiB", "kv_cache": "96MiB", "overhead": "144MiB"},
    "price": {"input_token": 0.0000002},
}


def few_replicas(card: dict[str, Any]) -> None:
    """The demo's tiny-llama starts more of itself at a few requests at once, for spikes; here replicas are counted."""
    del card["target_in_flight"], card["engine_args"]["max_num_seqs"]
    card["max_replicas"] = 2


@pytest.fixture(scope="session")
def demo_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    make_demo_models(root, progress=print)
    return root


@pytest.fixture(scope="session")
def broken_models(demo_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of good models, each broken in one way."""
    return spoil_copies(demo_models, tmp_path_factory.mktemp("broken"))


@pytest.fixture(scope="session")
def config(demo_models: Path, broken_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's configuration, and models that cannot be served for one reason each."""
    config = yaml.safe_load(demo_config_text(demo_models))
    good = {card["model_id"]: card for card in config["models"]}
    few_replicas(good["tiny-llama"])
    config["models"] += bad_cards(good, broken_models)
    config["models"].append({**good["tiny-gemma"], **ONE_AT_A_TIME})
    pirate = make_adapter(tmp_path_factory.mktemp("adapters") / "pirate", demo_models / "tiny-llama")
    config["models"].append({**good["tiny-llama"], **ADAPTED, "adapters": {"org/pirate": str(pirate)}})
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


@pytest.fixture(scope="session")
def _tab() -> Iterator[Browser | None]:
    found = program()
    if found is None:
        yield None
        return
    with browser(found) as tab:
        yield tab


@pytest.fixture
def chromium(_tab: Browser | None, record_property: Callable[[str, object], None]) -> Browser | None:
    """None on a machine without it; the end of the tests says so."""
    if _tab is None:
        record_property("told", "There is no Chromium here: pages were read, not opened.")
    return _tab
