"""The configuration changes while a real engine answers: models go, names wander, and nobody is cut off."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.catalog.service import ServiceConfig
from tests.e2e.service import Service, rows, until

GOES = "one-at-a-time"
DRAIN_TIMEOUT_S = ServiceConfig.model_fields["drain_timeout"].default
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def change(service: Service, config: Path) -> Iterator[Callable[[Change], None]]:
    """Has the service take a changed configuration; in the end it has the old one again."""
    before = config.read_text()

    def take(how: Change) -> None:
        changed = yaml.safe_load(before)
        how({card["model_id"]: card for card in changed["models"]})
        changed["models"] = [card for card in changed["models"] if card.pop("kept", True)]
        config.write_text(yaml.safe_dump(changed))
        reload(service)

    yield take
    config.write_text(before)
    reload(service)
    until(lambda: GOES in catalog(service))


def reload(service: Service) -> None:
    with service.http(admin=True) as client:
        client.post("/admin/v1/reload").raise_for_status()


def catalog(service: Service) -> set[str]:
    return {model["model_id"] for model in rows(service.admin("models"))}


def test_a_model_is_removed_while_it_streams(service: Service, change: Callable[[Change], None]) -> None:
    assert service.chat(GOES).status_code == 200
    question = {
        "model": GOES,
        "messages": [{"role": "user", "content": "go on"}],
        "max_tokens": 700,
        "ignore_eos": True,
    }
    with (
        service.http() as client,
        client.stream("POST", "/v1/chat/completions", json={**question, "stream": True}) as out,
    ):
        lines = out.iter_lines()
        assert next(lines).startswith("data: ")
        removed_s = time.monotonic()
        change(lambda cards: cards[GOES].update(kept=False))
        until(lambda: service.chat(GOES).status_code == 404)
        refused = service.chat(GOES).json()["error"]
        assert refused["code"] == "model_not_found"
        (replica,) = service.replicas(GOES)
        assert replica["state"] == "draining"
        said = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    took_s = time.monotonic() - removed_s
    assert all("error" not in json.loads(line) for line in said[:-1])
    if took_s < DRAIN_TIMEOUT_S:
        assert said[-1] == "[DONE]", "the answer came to its end"
    else:  # on a machine that is so slow, it is stopped in order
        assert said[-1] == "[DONE]" or json.loads(said[-1])["error"]["code"] == "engine_stopped"
    until(lambda: service.replicas(GOES) == [])


def test_a_name_moves_from_one_model_to_another(service: Service, change: Callable[[Change], None]) -> None:
    """Each answers to the names of its card; whoever asks meanwhile waits for the engine that knows them."""

    def move(cards: dict[str, Any]) -> None:
        cards["tiny-llama"]["aliases"] = []
        cards["tiny-gemma"]["aliases"] = ["wandering"]

    change(lambda cards: cards["tiny-llama"].update(aliases=["wandering"]))
    assert until(lambda: named(service, "wandering") == "tiny-llama")
    assert used_by(service, "wandering") == "tiny-llama"
    change(move)
    assert until(lambda: named(service, "wandering") == "tiny-gemma")
    assert used_by(service, "wandering") == "tiny-gemma"
    assert service.chat("tiny-llama").status_code == 200


def named(service: Service, name: str) -> str | None:
    """Which model goes by that name."""
    with service.http() as client:
        for model in client.get("/v1/models").raise_for_status().json()["data"]:
            if name in model["aliases"]:
                return str(model["id"])
    return None


def used_by(service: Service, name: str) -> str:
    """Ask by the name: whose replica has answered."""
    asked_unix_s = time.time()
    answer = service.chat(name)
    assert answer.status_code == 200, answer.text
    used = until(lambda: [one for one in replicas(service) if one["last_used_unix_s"] >= asked_unix_s])
    (model,) = {str(one["model_id"]) for one in used}
    return model


def replicas(service: Service) -> list[dict[str, Any]]:
    return rows(service.admin("replicas"))
