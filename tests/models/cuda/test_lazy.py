"""Importing this package starts no CUDA and loads nothing heavy; a launcher that warms never touches the driver."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys

import pytest

import models.cuda
from tests.models.runtimes.launchers import REPO

WITHOUT_VLLM = [module.name for module in pkgutil.iter_modules(models.cuda.__path__) if module.name != "vllm_backend"]
HEAVY = ("ray", "redis", "vllm", "transformers", "cuda", "fastapi", "aiohttp", "pydantic")

WATCHED = """
import json, sys, threading
seen = []
def watch(event, arguments):
    if event in ("ctypes.dlopen", "ctypes.dlsym"):
        seen.append(str(arguments[0] if event == "ctypes.dlopen" else arguments[1]))
sys.addaudithook(watch)
"""


def run(code, *arguments):
    environment = {**os.environ, "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # as the launcher has it
    done = subprocess.run(
        [sys.executable, "-c", WATCHED + code, *arguments],
        cwd=REPO,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_all_of_it_needs_torch_and_msgspec_only():
    names = [f"models.cuda.{name}" for name in WITHOUT_VLLM]
    told = run(
        f"import importlib\nfor name in {names!r}: importlib.import_module(name)\n"
        "import torch\n"
        f"print(json.dumps([[n for n in {HEAVY!r} if n in sys.modules], torch.cuda.is_initialized(), seen]))"
    )
    heavy, initialized, opened = told
    assert heavy == []
    assert initialized is False
    assert not [name for name in opened if "libcuda.so" in name or name == "cuInit" or "nvidia-ml" in name]


def test_warming_calls_nothing_of_the_driver(tmp_path):
    """What a forked child would inherit broken: a started driver. Watched at the loader of libraries."""
    told = run(
        "from models.runtimes.torch.runtime import TorchRuntime\n"
        "runtime = TorchRuntime()\n"
        "thread = threading.Thread(target=lambda: (runtime.preimport(), runtime.warm(sys.argv[1])))\n"
        "thread.start(); thread.join()\n"
        "import torch\n"
        "maps = open('/proc/self/maps').read()\n"
        "print(json.dumps([torch.cuda.is_initialized(), seen, 'libcuda.so' in maps, 'nvidia-uvm' in maps]))",
        str(tmp_path),
    )
    initialized, opened, mapped, managed = told
    assert initialized is False
    assert "cuInit" not in opened
    assert not [name for name in opened if "libcuda.so" in name]
    assert not managed
    assert not mapped


@pytest.mark.parametrize("name", WITHOUT_VLLM)
def test_every_module_says_what_it_is(name):
    module = __import__(f"models.cuda.{name}", fromlist=["_"])
    assert module.__doc__
    assert len(module.__doc__.splitlines()[0]) <= 120
