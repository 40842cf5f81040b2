"""Runtimes by name, and your own by module."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from models.runtimes.registry import RUNTIMES, find_runtime


@pytest.mark.parametrize("name", RUNTIMES)
def test_each_runtime_has_its_own_name(name):
    assert find_runtime(name).name == name


def test_a_runtime_of_ones_own():
    assert find_runtime("tests.models.runtimes.fake_runtime:make").name == "fake"


@pytest.mark.parametrize(
    ("name", "said"),
    [("tensorrt", "there are vllm, torch"), ("tests.models.runtimes.fake_runtime:nothing", "has no nothing")],
)
def test_what_there_is_not_is_named(name, said):
    with pytest.raises(ValueError, match=said):
        find_runtime(name)


def test_a_module_that_is_not_there():
    with pytest.raises(ImportError):
        find_runtime("no.such.module:make")


def test_looking_a_runtime_up_loads_nothing_heavy():
    code = (
        "import sys; from models.runtimes.registry import RUNTIMES, find_runtime\n"
        "[find_runtime(name).version() for name in RUNTIMES]\n"
        "print([name for name in ('torch', 'vllm', 'transformers', 'ray', 'redis') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_that_is_not_installed_says_so(name, monkeypatch):
    def nothing_there(distribution):
        raise importlib.metadata.PackageNotFoundError(distribution)

    monkeypatch.setattr(importlib.metadata, "version", nothing_there)
    with pytest.raises(ImportError, match=f"{name} is not installed"):
        find_runtime(name).version()
