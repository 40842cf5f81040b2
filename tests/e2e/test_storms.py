"""Four hot models of real engines on memory for two; models kept warm and memory kept for one while that goes on."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.demo.catalog import demo_config_text
from tests.e2e.conftest import few_replicas
from tests.e2e.service import Service, free_port, temporary_home, until

pytestmark = pytest.mark.e2e
HOT = ("hot-a", "hot-b", "hot-c", "hot-d")
PATIENCE_S, SWAPS_A_MINUTE = 3.0, 60.0
LEAST_SWAPS, LEAST_ANSWERS = 6, 8  # by then they have taken turns, and everybody got on
KEPT = {"name": "for-a", "models": ["hot-a"], "memory": "224MiB"}


def _config(demo_models: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(demo_config_text(demo_models))
    llama = next(card for card in config["models"] if card["model_id"] == "tiny-llama")
    few_replicas(llama)
    config["models"] = [{**llama, "model_id": name, "aliases": []} for name in HOT]
    config["policies"] = {"patience": PATIENCE_S, "swaps_per_minute": SWAPS_A_MINUTE}
    return config


@pytest.fixture(scope="module")
def written(demo_models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path, config = tmp_path_factory.mktemp("storm") / "roundhouse.yaml", _config(demo_models)
    path.write_text(yaml.safe_dump(config))
    return path, config


@pytest.fixture(scope="module")
def crowded(written: tuple[Path, dict[str, Any]]) -> Iterator[Service]:
    """One GPU that holds two of the four."""
    with temporary_home() as home:
        running = Service(home, free_port())
        try:
            running.up("--config", str(written[0]), "--gpus", "1x464MiB")
            for model in HOT:  # so that each has been measured
                assert running.chat(model).status_code == 200
            yield running
        finally:
            running.down()


class Storm:
    """Two callers of each model, without a pause. ``waits_s``: what each answer took; ``wrong``: what else came."""

    def __init__(self, service: Service, models: tuple[str, ...]) -> None:
        self._service, self._models = service, models
        self._done = threading.Event()
        self._pool = ThreadPoolExecutor(2 * len(models))
        self.waits_s: dict[str, list[float]] = defaultdict(list)
        self.wrong: list[str] = []

    def __enter__(self) -> Storm:
        self._calls = [self._pool.submit(self._call, model) for model in self._models for _ in range(2)]
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        for call in self._calls:
            call.result()
        self._pool.shutdown()

    def everybody_had(self, answers: int) -> bool:
        return all(len(self.waits_s[model]) >= answers for model in self._models)

    def _call(self, model: str) -> None:
        while not self._done.is_set():
            began = time.monotonic()
            answer = self._service.chat(model, max_tokens=8)
            self.waits_s[model].append(time.monotonic() - began)
            if answer.status_code != 200:
                self.wrong.append(f"{model}: {answer.status_code} {answer.text[:200]}")


def _swaps(service: Service, since_s: float) -> list[dict[str, Any]]:
    found = (one for one in service.decisions() if one["action"] in ("sleep", "stop") and one["evicted_for"])
    return sorted((one for one in found if one["at_unix_s"] >= since_s), key=lambda one: float(one["at_unix_s"]))


def test_all_of_them_are_served_in_turn_without_an_error(crowded: Service) -> None:
    since_s = time.time()
    with Storm(crowded, HOT) as storm:
        until(lambda: len(_swaps(crowded, since_s)) >= LEAST_SWAPS and storm.everybody_had(LEAST_ANSWERS), 60, 0.5)
    assert storm.wrong == []
    swaps = _swaps(crowded, since_s)
    times_s = [one["at_unix_s"] for one in swaps]
    between_s = [later - one for one, later in pairwise(times_s) if later > one]
    assert min(between_s) >= 60 / SWAPS_A_MINUTE - 0.01, "one GPU: so much lies between any two"
    for swap in swaps:
        assert swap["details"]["estimate_s"] >= 0
        cost = swap["details"]["cost"]
        assert cost["moved_bytes"] > 0
        assert cost["back_s"] > 0
        assert set(cost["delays"]) <= {swap["model_id"]}


@pytest.mark.long
def test_what_is_kept_warm_keeps_its_place_in_the_storm(crowded: Service) -> None:
    said = crowded.run("warm", "hot-a", "--until", "1h", "--wait").stdout
    assert "1 replica of hot-a is ready" in said
    (replica,) = [one["replica_id"] for one in crowded.replicas("hot-a") if one["state"] == "ready"]
    since_s = time.time()
    with Storm(crowded, HOT[1:]) as storm:
        time.sleep(8)
    assert storm.wrong == []
    assert [one for one in _swaps(crowded, since_s) if one["model_id"] == "hot-a"] == []
    assert [one["replica_id"] for one in crowded.replicas("hot-a") if one["state"] == "ready"] == [replica]
    (kept,) = crowded.json("warm")["data"]
    assert (kept["model_id"], kept["by"], kept["state"], kept["ready"]) == ("hot-a", "operator", "warm", 1)
    assert "hot-a is not kept warm any longer" in crowded.run("warm", "hot-a", "--off").stdout
    assert crowded.json("warm")["data"] == []
    dry = crowded.json("warm", "hot-a", "--dry-run")
    assert "would be kept warm" in dry["message"]


@pytest.mark.long
def test_memory_that_is_kept_for_one_is_there_when_it_is_called(
    crowded: Service, written: tuple[Path, dict[str, Any]]
) -> None:
    path, config = written
    crowded.order("hot-a", "stop")
    path.write_text(yaml.safe_dump({**config, "reservations": [KEPT]}))
    crowded.run("reload")
    try:
        with Storm(crowded, HOT[1:]) as storm:
            until(lambda: all(len(storm.waits_s[model]) > 1 for model in HOT[1:]))
            since_s = time.time()
            assert crowded.chat("hot-a").status_code == 200
            for_a = [one for one in _swaps(crowded, since_s) if one["evicted_for"] == "hot-a"]
        assert storm.wrong == []
        assert for_a == [], "nobody had to go for it: the room was there"
    finally:
        path.write_text(yaml.safe_dump(config))
        crowded.run("reload")
