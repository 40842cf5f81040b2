"""A task's application around a model, without a server; and a shipped class with its weights, without an engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch

from models.runtimes.torch.batch_queue import Limits
from models.runtimes.torch.batcher import Batcher
from models.runtimes.torch.weights import Weights

CPU = torch.device("cpu")


@contextmanager
def served(build: Any, model: Any, *names: str) -> Iterator[httpx.AsyncClient]:
    """A client of the application that ``build`` makes; a class's ``stream`` is used where it has one."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        batcher = Batcher(model.predict, thread, Limits(), stream=getattr(model, "stream", None))
        transport = httpx.ASGITransport(build(model, batcher, names), raise_app_exceptions=False)
        yield httpx.AsyncClient(transport=transport, base_url="http://engine")


def load(model: Any, folder: Path, device: torch.device = CPU) -> Any:
    model.load(device, Weights(folder, device))
    return model


def events(answer: httpx.Response) -> list[tuple[str | None, Any]]:
    """Name and content of each server-sent event."""
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    found: list[tuple[str | None, Any]] = []
    for block in answer.text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        data = lines["data"]
        found.append((lines.get("event"), data if data == "[DONE]" else json.loads(data)))
    return found


def error_of(answer: httpx.Response) -> tuple[int, str | None, str]:
    """Status, param and message."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["param"], error["message"]
