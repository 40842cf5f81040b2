"""What every policy benchmark takes: where the data is, which items, which seeds."""

from __future__ import annotations

import argparse
import gzip
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

DATA = Path("../shared/data")
RESULTS = Path("bench-results")
DEFAULT_JOBS = 2


class BadData(Exception):
    """A file that is missing or cannot be read as what it should be; the message names it, and the line and field."""


@dataclass(frozen=True, slots=True)
class Options:
    """``only``: shell patterns; an item runs when its goal or its name matches one. No pattern: all run."""

    data: Path
    seeds: tuple[int, ...] | None
    only: tuple[str, ...]
    results: Path
    jobs: int

    def wants(self, goal: str, item: str = "") -> bool:
        if not self.only:
            return True
        names = (goal.lower(), item.lower(), f"{goal}/{item}".lower())
        return any(fnmatch(name, pattern.lower()) for pattern in self.only for name in names)

    def files(self, pattern: str) -> list[Path]:
        """Every data file that fits, plain or .gz, by name. Raises BadData when there is none."""
        found = sorted({*self.data.glob(pattern), *self.data.glob(f"{pattern}.gz")})
        if not found:
            raise BadData(f"{self.data / pattern}[.gz] is missing; name the folder of the traces with DATA=dir")
        return found


def parse_options(title: str, argv: Sequence[str] | None = None) -> Options:
    """Exits with a usage message on what cannot be understood."""
    parser = argparse.ArgumentParser(prog=f"python -m loadtests.policies.{title}", description=f"Benchmark {title}.")
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder laid out like {DATA} (default)")
    parser.add_argument("--seeds", type=_seeds, default=None, help="such as 42..51 or 1,2,3; default: each goal's own")
    parser.add_argument("--only", default="", help="goals or items, such as P1,multigpu20 or 'P*'")
    parser.add_argument("--results", type=Path, default=RESULTS, help=f"folder for the JSON (default {RESULTS})")
    jobs = min(DEFAULT_JOBS, os.cpu_count() or 1)
    parser.add_argument("--jobs", type=_count, default=jobs, help=f"processes at once (default {jobs})")
    given = parser.parse_args(argv)
    if not given.data.is_dir():
        parser.error(f"--data: {given.data} is not a folder; name the folder of the traces (make: DATA=dir)")
    only = tuple(part.strip() for part in given.only.split(",") if part.strip())
    return Options(given.data, given.seeds, only, given.results, given.jobs)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, unpacked if its name ends in .gz. Raises BadData."""
    try:
        content = path.read_bytes()
        text = gzip.decompress(content) if path.suffix == ".gz" else content
        return text.decode("utf-8-sig").splitlines()
    except (OSError, EOFError, gzip.BadGzipFile, UnicodeDecodeError) as problem:
        raise BadData(f"{path} cannot be read: {problem}") from None


def complain(problem: Exception) -> int:
    """Exit status 1, the problem on stderr."""
    print(f"error: {problem}", file=sys.stderr)
    return 1


def _seeds(text: str) -> tuple[int, ...] | None:
    if not text.strip():
        return None
    seeds: list[int] = []
    for part in text.split(","):
        first, dots, last = part.strip().partition("..")
        seeds += range(int(first), int(last) + 1) if dots else [int(first)]
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} names no seed; write 42..51 or 1,2,3")
    return tuple(seeds)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return number
