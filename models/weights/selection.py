"""Which files make a model: by name alone, the same for folders, the hub and S3."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from models.weights.errors import SourceRefused
from models.weights.stats import FileStat

SAFETENSORS = ".safetensors"
WANTED = ("*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer*", "*.model")
SUMS = ("SHA256SUMS", "SHA256SUMS.txt", "sha256sums.txt", "*.sha256")
# Pickled weights and Python code can run anything; they are not even fetched.
REFUSED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.npz", "*.py", "*.h5", "*.msgpack", "original/*")
PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
DEEPEST = 3  # folders below a model's own
MOST_FILES = 10_000
_ODD = re.compile(r"[\x00-\x1f\x7f\\]")


def is_sums(name: str) -> bool:
    return any(fnmatch.fnmatchcase(PurePosixPath(name).name, pattern) for pattern in SUMS)


def is_wanted(name: str) -> bool:
    """Of the files on the other side: what is fetched. ``*`` matches ``/`` as well, as the hub's own patterns do."""
    parts = name.split("/")
    if len(parts) > DEEPEST + 1 or any(part.startswith(".") for part in parts):
        return False
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in REFUSED):
        return False
    return is_sums(name) or any(fnmatch.fnmatchcase(name, pattern) for pattern in WANTED)


def check_name(name: str) -> str:
    """A name from the other side, fit to become a path here. Raises SourceRefused."""
    parts = name.split("/")
    sound = name and len(name.encode()) <= 512 and not _ODD.search(name)
    if not sound or len(parts) > DEEPEST + 1 or any(part in ("", ".", "..") or part[0] == "." for part in parts):
        raise SourceRefused(f"it names a file {name[:100]!r}, which is no sound name")
    return name


def refuse_pickles(names: Iterable[str]) -> None:
    """Raises SourceRefused for a source without safetensors, saying when it has only pickled weights."""
    names = sorted(names)
    if any(name.endswith(SAFETENSORS) for name in names):
        return
    pickled = [name for name in names if PurePosixPath(name).suffix in PICKLED]
    if pickled:
        which = f"{pickled[0]} and {len(pickled) - 1} more" if len(pickled) > 1 else pickled[0]
        raise SourceRefused(
            f"it has only pickled weights ({which}), which are refused because they can run code",
            "convert them to safetensors",
        )
    raise SourceRefused("the folder has no *.safetensors weights")


def model_files(folder: Path) -> dict[str, FileStat]:
    """The files of a local folder that make the model, by name relative to it. Raises OSError, SourceRefused."""
    found: dict[str, FileStat] = {}
    for name in _names(folder, "", 0):
        if is_wanted(name) and not is_sums(name):
            found[name] = FileStat.of(folder / name)
            if len(found) > MOST_FILES:
                raise SourceRefused(f"the folder has more than {MOST_FILES} files", "name the model's own folder")
    return found


def sums_files(folder: Path) -> list[Path]:
    """Files with checksums beside the weights."""
    return [folder / name for name in sorted(os.listdir(folder)) if is_sums(name)]


def _names(folder: Path, prefix: str, depth: int) -> Iterator[str]:
    with os.scandir(folder / prefix) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = f"{prefix}{entry.name}"
            if entry.is_file():
                yield name
            elif depth < DEEPEST and entry.is_dir():
                yield from _names(folder, f"{name}/", depth + 1)
