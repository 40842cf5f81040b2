"""Defragmentation of real engines while they answer: two half-empty GPUs become a full and an empty one, 0 errors."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.service import Service, rows

pytestmark = pytest.mark.e2e
CHAT = ("tiny-llama", "tiny-gemma")
FILLERS = ("minilm", "tiny-painter")


def _where(service: Service, *models: str) -> dict[str, str]:
    found = [each for model in models for each in service.replicas(model) if each["state"] == "ready"]
    return {each["model_id"]: each["gpu"] for each in found}


def _scatter(service: Service) -> tuple[str, str]:
    """tiny-llama alone on the first GPU, tiny-gemma alone on the second: what kept it from the first is gone again."""
    for replica in rows(service.admin("replicas")):
        service.order(replica["model_id"], "stop")
    first, second = (gpu["id"] for gpu in rows(service.admin("gpus")))
    service.run("gpus", "drain", second)
    try:
        for model in ("tiny-llama", *FILLERS):
            service.order(model, "wake")
    finally:
        service.run("gpus", "undrain", second)
    service.order("tiny-gemma", "wake")
    for model in FILLERS:
        service.order(model, "stop")
    return first, second


class Callers:
    """Call both models without a pause, streams and whole answers by turns, and keep whatever goes wrong."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._done = threading.Event()
        self._pool = ThreadPoolExecutor(4)
        self.answers = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Callers:
        self._calls = [self._pool.submit(self._call, model, stream) for model in CHAT for stream in (False, True)]
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        for call in self._calls:
            call.result()
        self._pool.shutdown()

    def _call(self, model: str, stream: bool) -> None:
        while not self._done.is_set():
            answer = self._service.chat(model, max_tokens=16, stream=stream)
            self.answers += 1
            if answer.status_code != 200:
                self.wrong.append(f"{model}: {answer.status_code} {answer.text[:200]}")
            elif stream and (not answer.text.rstrip().endswith("[DONE]") or '"error"' in answer.text):
                self.wrong.append(f"{model}: {answer.text[-200:]}")


def test_scattered_models_are_moved_together_under_load_without_an_error(service: Service) -> None:
    first, second = _scatter(service)
    assert _where(service, *CHAT) == {"tiny-llama": first, "tiny-gemma": second}
    planned = service.json("defrag", "--dry-run")
    assert planned["detail"]["moves"], planned
    assert planned["detail"]["after"]["empty_gpus"] == 1
    assert _where(service, *CHAT) == {"tiny-llama": first, "tiny-gemma": second}, "nothing was changed by asking"
    with Callers(service) as callers:
        done = service.json("defrag", "--wait")
    assert callers.wrong == []
    assert callers.answers > 0
    run: dict[str, Any] = done["detail"]["run"]
    assert (done["ok"], run["state"]) == (True, "done")
    (move,) = run["moves"]
    assert move["state"] == "done"
    assert len(set(_where(service, *CHAT).values())) == 1
    start = next(each for each in service.decisions() if each["key"] == move["decision"])
    assert start["details"]["replaces"] == move["replica_id"]
    assert start["outcome"]["action"] == "ready"
    assert service.json("defrag", "--status")["run"]["id"] == run["id"]
    again = service.json("defrag")
    assert again["message"] == "nothing that can be moved pays"
