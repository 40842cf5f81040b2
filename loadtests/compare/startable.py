"""What ``compare --start`` can start by itself, on loopback, with one model's files: one at a time."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from loadtests.coldstart import stock
from loadtests.coldstart.service import OwnService
from loadtests.compare import engine_args
from loadtests.compare.place import Place, answering, on_path, own_environment
from loadtests.gateway import peers
from loadtests.gateway.ports import free_port
from loadtests.gateway.scene import Scene, Subject
from loadtests.target import Target
from loadtests.wire import CallFailed

ROOT = Path(__file__).resolve().parents[2]
RAY_LLM = "ray-serve-llm"
SIMULATED_MIB, KV_MIB = 4096, 160


@dataclass(frozen=True, slots=True)
class Startable:
    """``missing``: what has to be installed first, or None; it is asked with the folder of peers."""

    missing: Callable[[Path | None], str | None]
    started: Callable[[Place], AbstractContextManager[Target]]


def vllm_command(place: Place, port: int) -> list[str]:
    """vLLM's own server."""
    return [
        *(sys.executable, "-m", stock.MODULE, "--model", str(place.weights), "--served-model-name", place.model),
        *("--host", "127.0.0.1", "--port", str(port), *engine_args.words(place.engine_args)),
    ]


@contextlib.contextmanager
def plain_vllm(place: Place) -> Iterator[Target]:
    """With the environment that Roundhouse gives its engines."""
    port = free_port()
    target = Target(f"http://127.0.0.1:{port}")
    with answering("plain-vllm", vllm_command(place, port), stock.environment(os.environ), target, place):
        yield target


@contextlib.contextmanager
def roundhouse(place: Place) -> Iterator[Target]:
    """A service of its own in a fresh home; simulated GPUs where there is no real one."""
    config = place.folder / "roundhouse.yaml"
    config.write_text(json.dumps(roundhouse_config(place)))  # which is YAML as well
    home = place.folder / "home"
    home.mkdir(mode=0o700)
    service = OwnService(home, free_port(), config=config)
    try:
        target, _ = service.up(place.model)
    except BaseException:  # it is detached: nothing else would end it
        with contextlib.suppress(CallFailed, subprocess.SubprocessError):
            service.down()
        raise
    try:
        yield target
    finally:
        service.down()


def roundhouse_config(place: Place) -> dict[str, object]:
    """One model, one replica at most: as many engines as the others have."""
    card: dict[str, object] = {
        "model_id": place.model,
        "model_source": str(place.weights),
        "engine_args": dict(place.engine_args),
        "max_replicas": 1,
        "ttl": "1h",
    }
    if Path("/proc/driver/nvidia/gpus").is_dir():
        return {"models": [card]}
    card["declared"] = {"kv_cache": f"{KV_MIB}MiB"}
    return {"gpus": {"simulated": f"1x{SIMULATED_MIB}MiB"}, "models": [card]}


def before_vllm(name: str, subject: Subject) -> Startable:
    """One of the gateway benchmark's peers, with one plain vLLM behind it."""

    def missing(installed: Path | None) -> str | None:
        return _no_vllm() or subject.missing(Scene(Path(), (), "", (), installed))

    @contextlib.contextmanager
    def started(place: Place) -> Iterator[Target]:
        with plain_vllm(place) as engine:
            port = free_port()
            folder = place.folder / name
            folder.mkdir(mode=0o700)
            scene = Scene(place.folder, (engine.port,), "", (), place.peers, names=(place.model,))
            words = subject.command(scene, port, folder)
            environ = own_environment(os.environ, **subject.environ(folder))
            target = Target(f"http://127.0.0.1:{port}")
            with answering(name, words, environ, target, place):
                yield target

    return Startable(missing, started)


@contextlib.contextmanager
def ray_serve_llm(place: Place) -> Iterator[Target]:
    """One replica; tokens are handed on as they come, where Ray's default collects them for 50 ms."""
    port = free_port()
    scratch = place.folder / "ray"
    scratch.mkdir(mode=0o700)
    programs = (place.peers or Path()) / RAY_LLM / "bin"
    words = [
        *(str(programs / "python"), "-m", "loadtests.compare.ray_llm", "--port", str(port)),
        *("--scratch", str(scratch), "--weights", str(place.weights), "--model", place.model),
        *("--engine-args", json.dumps(dict(place.engine_args))),
    ]
    environ = own_environment(
        stock.environment(os.environ), PYTHONPATH=str(ROOT), PATH=on_path(programs), RAY_USAGE_STATS_ENABLED="0"
    )
    target = Target(f"http://127.0.0.1:{port}")
    with answering(RAY_LLM, words, environ, target, place):
        yield target


def _no_vllm(_peers: Path | None = None) -> str | None:
    if importlib.util.find_spec("vllm") is None:
        return "vLLM is not installed; pip install 'roundhouse-serve[cpu]', or [cuda] on a machine with NVIDIA GPUs"
    return None


def _no_ray_llm(installed: Path | None) -> str | None:
    if why := _no_vllm():
        return why
    if installed is None:
        return f"no folder of peers named (--peers DIR; `make bench-peers PEERS=DIR` puts {RAY_LLM} there)"
    if not (installed / RAY_LLM / "bin" / "python").exists():
        return f"not installed in {installed}; `make bench-peers PEERS={installed}` does it"
    return None


_BY_NAME = {subject.name: subject for subject in peers.PEERS}
STARTABLE = {
    "roundhouse": Startable(_no_vllm, roundhouse),
    "plain-vllm": Startable(_no_vllm, plain_vllm),
    **{
        name: before_vllm(name, _BY_NAME[name])
        for name in ("nginx", "haproxy", "vllm-router", "sglang-router", "litellm")
    },
    RAY_LLM: Startable(_no_ray_llm, ray_serve_llm),
}
