"""Peers are installed as they are published; where an index is a day behind, with what it has."""

from __future__ import annotations

import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtests.gateway import install
from loadtests.gateway.install import PINNED, main, relaxed

PUBLISHED = [
    "certifi>=2026.10.19",
    "aiohttp<4.0,>=3.14.2",
    "httpx[http2]<1.0,>=0.28.0",
    'async-timeout>=4.0.3; python_full_version < "3.11"',
    'mlflow>=3; extra == "mlflow"',
    "litellm-proxy-extras==0.4.113; extra == 'proxy'",
    'orjson>=3.11; python_full_version < "3.15" and extra == "proxy"',
    "",
]


def test_only_what_is_known_to_lag_loses_its_version() -> None:
    assert relaxed(PUBLISHED, "proxy") == [
        "certifi",
        "aiohttp<4.0,>=3.14.2",
        "httpx[http2]<1.0,>=0.28.0",
        'async-timeout>=4.0.3; python_full_version < "3.11"',
        "litellm-proxy-extras",
        'orjson>=3.11; python_full_version < "3.15"',
    ]


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What pip was asked; it refuses what has an extra."""
    asked: list[list[str]] = []

    def refuses_extras(_folder: Path, what: Sequence[str]) -> bool:
        asked.append(list(what))
        return not any("[" in each.partition("=")[0] for each in what)

    monkeypatch.setattr(install, "_pip", refuses_extras)
    monkeypatch.setattr(venv, "create", lambda *_args, **_options: None)
    monkeypatch.setattr(
        subprocess, "run", lambda args, **_: subprocess.CompletedProcess(args, 0, stdout="certifi>=9\nbackoff>=2\n")
    )
    return asked


def test_each_peer_is_pinned(tmp_path: Path, pip: list[list[str]]) -> None:
    assert main([str(tmp_path), "--only", "vllm-router", "sglang-router"]) == 0
    assert pip == [[f"vllm-router=={PINNED['vllm-router']}"], [f"sglang-router=={PINNED['sglang-router']}"]]


def test_what_cannot_be_installed_whole_is_installed_with_what_there_is(tmp_path: Path, pip: list[list[str]]) -> None:
    assert main([str(tmp_path), "--only", "litellm"]) == 0
    pinned = PINNED["litellm"]
    assert pip == [[f"litellm[proxy]=={pinned}"], ["--no-deps", f"litellm=={pinned}"], ["certifi", "backoff>=2"]]


def test_a_peer_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "_pip", lambda *_: False)
    monkeypatch.setattr(venv, "create", lambda *_args, **_options: None)
    assert main([str(tmp_path), "--only", "vllm-router"]) == 1
    assert "vllm-router: could not be installed; the benchmark goes on without it" in capsys.readouterr().err
