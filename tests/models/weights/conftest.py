"""Stores in folders of their own, and the other sides that they import from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.weights.store import WeightStore
from tests.models.catalog.folders import TensorSpec, safetensors_bytes
from tests.models.weights.hub_server import Hub, hub_of
from tests.models.weights.s3_server import S3, s3_of

MiB = 2**20
S3_ENV = {
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def weights_of(size_bytes: int, fill: int = 1) -> bytes:
    """A sound safetensors file whose blocks differ from each other."""
    spec: TensorSpec = ("U8", [size_bytes], size_bytes)
    header = {"w": {"dtype": spec[0], "shape": spec[1], "data_offsets": [0, size_bytes]}}
    block = bytes((fill * 31 + place * 7) % 251 for place in range(4099))
    return safetensors_bytes(header, 0) + (block * (size_bytes // len(block) + 1))[:size_bytes]


def model(size_bytes: int = 64 * 1024, fill: int = 1) -> dict[str, bytes]:
    return {
        "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
        "tokenizer.json": b'{"version": "1.0"}',
        "model.safetensors": weights_of(size_bytes, fill),
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


class Clock:
    """Unix seconds that pass when a test says so, or when somebody sleeps."""

    def __init__(self, now_s: float = 1_000_000.0) -> None:
        self.now_s = now_s
        self.slept_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_store(tmp_path: Path, clock: Clock) -> Callable[..., WeightStore]:
    def make(env: dict[str, str] | None = None, free_bytes: int = 2**40) -> WeightStore:
        return WeightStore(
            tmp_path / "store", env=env or {}, clock=clock, sleep=clock.sleep, free_bytes=lambda folder: free_bytes
        )

    return make


@pytest.fixture
def store(make_store: Callable[..., WeightStore]) -> WeightStore:
    return make_store()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "model", model())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The client reads HF_HUB_OFFLINE when it is imported, and tests may run with it set."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_of(model(512 * 1024)) as served:
        yield served


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with s3_of(model(512 * 1024)) as served:
        for name, value in {**S3_ENV, "AWS_ENDPOINT_URL": served.url}.items():
            monkeypatch.setenv(name, value)
        yield served
