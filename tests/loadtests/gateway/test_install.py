"""Peers are installed as they are published; where an index is a day behind, with what it has."""

from __future__ import annotations

import subprocess
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtests.gateway import install
from loadtests.gateway.install import PINNED, _name_of, main, relaxed

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


@pytest.fixture
def ray_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    published = [
        "requests>=2",
        'vllm[audio]==0.29.0; extra == "llm"',
        'nixl==1.3.2; extra == "llm"',
        'jsonref>=1.1.0; extra == "llm"',
        'pyarrow>=17.0.0; extra == "data"',
        'pyarrow>=17.0.0; extra == "llm"',
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda _name: published)


@pytest.mark.usefixtures("ray_wants")
def test_ray_serve_llm_gets_what_it_asks_for_besides_ray_and_vllm(
    tmp_path: Path, pip: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "ray-serve-llm" / "lib" / "python3.11" / "site-packages"
    monkeypatch.setattr(venv, "create", lambda *_args, **_options: packages.mkdir(parents=True))
    assert main([str(tmp_path), "--only", "ray-serve-llm"]) == 0
    assert pip == [["requests>=2", "jsonref>=1.1.0", "pyarrow>=17.0.0"]]
    seen = (packages / "inherited.pth").read_text().splitlines()
    assert sysconfig.get_path("purelib") in seen


def test_without_ray_there_is_no_ray_serve_llm(
    tmp_path: Path, pip: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert main([str(tmp_path), "--only", "ray-serve-llm"]) == 1
    assert "the package ray is not installed here" in capsys.readouterr().err
    assert pip == []


@pytest.mark.parametrize(
    ("requirement", "name"),
    [("vllm[audio]==0.29.0", "vllm"), ("NIXL-cu13==1", "nixl-cu13"), ("numpy", "numpy"), ("", "")],
)
def test_the_name_of_a_requirement(requirement: str, name: str) -> None:
    assert _name_of(requirement) == name
