from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtests.compare import startable
from loadtests.compare.place import Place

ROOT = Path(__file__).resolve().parents[3]
STAND_IN = Path(__file__).with_name("stand_in.py")


def stand_in(*words: str) -> list[str]:
    return ["/usr/bin/env", f"PYTHONPATH={ROOT}", sys.executable, str(STAND_IN), *words]


@pytest.fixture
def tiny_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM starts within moments, and says what it is asked as a fake does."""
    monkeypatch.setattr(startable, "vllm_command", lambda place, port: stand_in("server", str(port), place.model))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights" / "llama"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def place(tmp_path: Path, weights: Path) -> Callable[..., Place]:
    """A place for the model ``llama``; what is given changes it."""

    def made(**given: object) -> Place:
        return Place(**{"folder": tmp_path, "weights": weights, "model": "llama", "engine_args": {}, **given})  # type: ignore[arg-type]

    return made


@pytest.fixture
def peers(tmp_path: Path) -> Path:
    """A folder of peers with a ``litellm`` that reads its configuration and hands requests on."""
    folder = tmp_path / "peers"
    program = folder / "litellm" / "bin" / "litellm"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "given = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "(model,) = json.load(open(given['--config']))['model_list']\n"
        "engine = model['litellm_params']['api_base'].removesuffix('/v1').rpartition(':')[2]\n"
        f"os.environ['PYTHONPATH'] = {str(ROOT)!r}\n"
        f"os.execv(sys.executable, [sys.executable, {str(STAND_IN)!r}, 'proxy', given['--port'], engine])\n"
    )
    program.chmod(0o700)
    return folder
