"""Local folders: referred to in their place, or copied; both read to their end."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from models.weights.errors import Damaged, SourceRefused
from models.weights.urls import FolderUrl
from tests.models.weights.conftest import model, weights_of, write


def sums_for(folder: Path, **changed: str) -> None:
    lines = (
        f"{changed.get(path.stem, hashlib.sha256(path.read_bytes()).hexdigest())}  {path.name}\n"
        for path in folder.iterdir()
    )
    (folder / "SHA256SUMS").write_text("".join(list(lines)))


class TestReference:
    def test_it_stays_in_its_place_and_takes_no_room(self, store, folder):
        sums_for(folder)
        record = store.fetch(FolderUrl(folder))
        assert record.reference
        assert record.folder == str(folder)
        assert record.against == {"SHA256SUMS": 3}
        assert record.version == store.book.identity(folder)[1]
        assert store.items() == []

    def test_its_checksum_file_says_otherwise(self, store, folder):
        sums_for(folder, model="0" * 64)
        with pytest.raises(Damaged, match=r"model\.safetensors is damaged: its SHA-256 is not the one in SHA256SUMS"):
            store.fetch(FolderUrl(folder))

    def test_only_pickles(self, store, tmp_path):
        folder = write(tmp_path / "m", {"config.json": b"{}", "pytorch_model.bin": b"p"})
        with pytest.raises(SourceRefused, match="only pickled weights"):
            store.fetch(FolderUrl(folder))


class TestCopy:
    def test_it_is_a_snapshot_that_no_edit_of_the_original_reaches(self, store, folder):
        sums_for(folder)
        record = store.fetch(FolderUrl(folder), copy=True)
        (folder / "model.safetensors").write_bytes(b"edited")
        copy = store.find(str(folder))
        assert copy == Path(record.folder) != folder
        assert (copy / "model.safetensors").read_bytes() == model()["model.safetensors"]
        assert (copy / "SHA256SUMS").exists()
        assert store.verify(copy).damage == ()
        assert record.against == {"SHA256SUMS": 3}

    def test_a_changed_original_is_copied_anew(self, store, folder):
        old = store.fetch(FolderUrl(folder), copy=True)
        assert store.fetch(FolderUrl(folder), copy=True) == old
        (folder / "model.safetensors").write_bytes(weights_of(100))
        new = store.fetch(FolderUrl(folder), copy=True)
        assert new.folder != old.folder
        assert (Path(new.folder) / "model.safetensors").read_bytes() == weights_of(100)

    def test_a_wrong_checksum_beside_it(self, store, folder):
        sums_for(folder, config="0" * 64)
        with pytest.raises(Damaged, match=r"config\.json arrived damaged"):
            store.fetch(FolderUrl(folder), copy=True)
        assert store.find(str(folder)) is None

    @pytest.mark.parametrize("copy", [True, False])
    def test_what_is_not_there(self, store, tmp_path, copy):
        with pytest.raises((SourceRefused, OSError)):
            store.fetch(FolderUrl(tmp_path / "none"), copy=copy)
