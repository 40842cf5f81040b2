"""``make bench-gpu``: one line for each figure, and JSON with every pass. Needs a GPU; says so where there is none."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadtests.coldstart.machine import machine, versions
from loadtests.gpu import figures

GB = 10**9
PATIENCE_S = 300.0


class NotMeasured(Exception):
    """One measurement failed; the message is its last line."""


def gpus() -> list[dict[str, Any]]:
    """Raises SystemExit with one sentence where there is none."""
    from models.nvml import NvmlUnavailable, driver_version, probe

    try:
        found = probe()
        driver = driver_version()
    except NvmlUnavailable as reason:
        raise SystemExit(f"there is no GPU to measure here: {reason}") from None
    return [
        {
            "name": gpu.name,
            "memory_bytes": gpu.total_bytes,
            "used_bytes": gpu.used_bytes,
            "mig": gpu.mig,
            "driver": driver,
        }
        for gpu in found
    ]


def measure(subject: str, *arguments: object) -> dict[str, Any]:
    """Raises NotMeasured."""
    command = [sys.executable, "-m", "loadtests.gpu.subjects", subject, *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as problem:
        raise NotMeasured(f"it took longer than {PATIENCE_S:g} s") from problem
    if done.returncode:
        raise NotMeasured(done.stderr.strip().rpartition("\n")[2] or f"it ended with code {done.returncode}")
    told: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return told


class Bench:
    """Prints as it goes: what is measured stands even when a later measurement does not end."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self.document: dict[str, Any] = {"machine": machine(), "versions": versions(), "gpus": gpus()}
        self.failed = False

    def run(self) -> None:
        passes = ("--passes", self._options.passes, *(("--in", self._options.folder) if self._options.folder else ()))
        rates = self._one("bandwidth", figures.bandwidth_lines, *passes)
        bytes_per_s = float(rates["pinned"]["bytes_per_s"]) if rates else 0.0
        for size_gb in self._options.sizes:
            for source in ("file", "pool"):
                self._one(
                    "wake",
                    lambda told: [figures.wake_line(told, bytes_per_s)],
                    *("--bytes", round(size_gb * GB), "--from", source, *passes),
                )
        self._one("residue", lambda told: [figures.residue_line(told)], *passes)
        self._one("ledger", lambda told: [figures.ledger_line(told)], "--bytes", 4 * GB, *passes)
        self._one("checkpoint", lambda told: [figures.checkpoint_line(told)], *passes)

    def _one(
        self, subject: str, lines: Callable[[dict[str, Any]], list[str]], *arguments: object
    ) -> dict[str, Any] | None:
        try:
            told = measure(subject, *arguments)
        except NotMeasured as problem:
            self.failed = True
            print(f"{subject} {' '.join(map(str, arguments))}: not measured ({problem})", flush=True)
            self.document.setdefault(subject, []).append({"problem": str(problem)})
            return None
        print("\n".join(lines(told)), flush=True)
        self.document.setdefault(subject, []).append(told)
        return told


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.gpu", description=__doc__)
    parser.add_argument(
        "--sizes", type=_sizes, default=(0.1, 1.0, 4.0, 16.0), metavar="GB,GB", help="of models to wake"
    )
    parser.add_argument("--passes", type=int, default=5, metavar="N", help="of each measurement (%(default)s)")
    parser.add_argument("--folder", default=None, metavar="DIR", help="where model files are made (default: temporary)")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="every pass of every figure")
    options = parser.parse_args()
    bench = Bench(options)
    bench.run()
    if options.json is not None:
        options.json.write_text(json.dumps(bench.document, indent=1) + "\n")
    return 1 if bench.failed else 0


def _sizes(text: str) -> tuple[float, ...]:
    try:
        sizes = tuple(float(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of sizes above 0 in GB, such as 0.1,4")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
