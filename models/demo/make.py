"""Makes the demo models in a folder, each whole or not at all, and only those that are not there yet."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from models.demo.chat import LLAMA_1GB, LLAMA_90MB, TINY_GEMMA, TINY_LLAMA, TINY_QWEN, make_chat_model
from models.demo.classifier import make_classifier
from models.demo.ear import make_ear
from models.demo.embedder import copy_embedder, embedder_version
from models.demo.errors import UnknownDemoModel
from models.demo.painter import make_painter
from models.demo.reranker import make_reranker
from models.demo.voice import make_voice
from models.demo.warmup import write_warmup_model

Maker = Callable[[Path], None]
Progress = Callable[[str], None]

MARKER = ".complete"
LOCK = ".lock"
UNFINISHED = ".making-"

MAKERS: Mapping[str, Maker] = {
    "tiny-llama": partial(make_chat_model, TINY_LLAMA),
    "tiny-gemma": partial(make_chat_model, TINY_GEMMA),
    "tiny-qwen3": partial(make_chat_model, TINY_QWEN),
    "minilm": copy_embedder,
    "tiny-reranker": make_reranker,
    "tiny-topics": make_classifier,
    "tiny-painter": make_painter,
    "tiny-voice": make_voice,
    "tiny-ear": make_ear,
}
# Made only when they are asked for by name.
BENCHMARK_MAKERS: Mapping[str, Maker] = {
    "llama-90mb": partial(make_chat_model, LLAMA_90MB),
    "llama-1gb": partial(make_chat_model, LLAMA_1GB),
}
WARMUP_NAME = "warmup"


@dataclass(frozen=True, slots=True)
class DemoModel:
    """``made`` is False when it was there already; ``took_s`` is then the time it took to see that."""

    name: str
    folder: Path
    size_bytes: int
    made: bool
    took_s: float


def make_demo_models(root: Path, *, only: Sequence[str] | None = None, progress: Progress) -> list[DemoModel]:
    """Make the demo models below ``root``, or those named in ``only``; ``progress`` gets one line for each.

    Safe against a crash at any moment and against another process that does the same. A model whose recipe has changed,
    or that has lost a file, is made anew. Raises UnknownDemoModel before anything is made, EmbedderMissing, OSError.
    """
    names = tuple(MAKERS) if only is None else tuple(only)
    makers = {**MAKERS, **BENCHMARK_MAKERS}
    for name in names:
        if name not in makers:
            raise UnknownDemoModel(name, tuple(makers))
    models = []
    for name in names:
        models.append(ensure_model(root, name, makers[name]))
        progress(describe(models[-1]))
    return models


def make_warmup_model(root: Path) -> Path:
    """The folder of the model that a launcher warms itself with, made if need be. Raises OSError."""
    return ensure_model(root, WARMUP_NAME, write_warmup_model).folder


def describe(model: DemoModel) -> str:
    what = f"made in {model.took_s:.1f} s" if model.made else "ready"
    return f"{model.name:<14}{model.size_bytes / 1e6:>8.1f} MB  {what}"


def ensure_model(root: Path, name: str, maker: Maker) -> DemoModel:
    """Have ``maker`` fill a folder that nobody sees, then give it its name. Raises whatever ``maker`` raises."""
    began_s = time.monotonic()
    folder, recipe = root / name, recipe_id()
    root.mkdir(parents=True, exist_ok=True)
    with _only_one(root):
        made = not is_complete(folder, recipe)
        if made:
            _make(root, folder, recipe, maker)
    return DemoModel(name, folder, sum(_sizes(folder).values()), made, time.monotonic() - began_s)


def is_complete(folder: Path, recipe: str) -> bool:
    """Whether the folder was finished by this recipe, and holds all of its files in full length."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return bool(marker["recipe"] == recipe and marker["files"].items() <= _sizes(folder).items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False  # no marker, or one that says nothing


@cache
def recipe_id() -> str:
    """Changes with anything that a model is made from: this package, the corpus, and the libraries that it draws on."""
    digest = hashlib.sha256(embedder_version().encode())
    for library in ("numpy", "tokenizers"):
        digest.update(importlib.metadata.version(library).encode())
    for file in sorted(Path(__file__).parent.iterdir()):
        if file.is_file():
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _make(root: Path, folder: Path, recipe: str, maker: Maker) -> None:
    for leftover in root.glob(f"{UNFINISHED}*"):
        shutil.rmtree(leftover)  # of a process that was killed: whoever works here holds the lock
    workshop = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=root))
    try:
        new = workshop / "new"
        new.mkdir()
        maker(new)
        (new / MARKER).write_text(json.dumps({"recipe": recipe, "files": _sizes(new)}), encoding="utf-8")
        if folder.exists():
            # An engine that has mapped the old files keeps them until it ends.
            folder.rename(workshop / "old")
        new.rename(folder)
    finally:
        shutil.rmtree(workshop)


def _sizes(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


@contextmanager
def _only_one(root: Path) -> Iterator[None]:
    """Hold the folder's lock; the system lets go of it when the process ends, however it ends."""
    with (root / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
