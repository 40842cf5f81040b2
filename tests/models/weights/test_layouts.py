"""Layout folders: one for each content, known or not, without keeping a start waiting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.weights.errors import Damaged
from tests.models.weights.conftest import model, weights_of, write


def export(layout: Path, content: bytes = b"layout") -> Path:
    """As an engine does."""
    path = layout / "key.safetensors"
    path.write_bytes(content)
    return path


def test_nothing_is_read_before_a_start(store, folder, monkeypatch):
    monkeypatch.setattr("models.weights.folders.hash_files", lambda *args, **kwargs: pytest.fail("it was read"))
    layout = store.prepare("r1", folder)
    assert layout.is_dir()
    assert layout.name.startswith("quick-")
    assert store.prepare("r2", folder) == layout


def test_what_was_exported_meanwhile_is_of_use_once_the_content_is_known(store, folder):
    layout = store.prepare("r1", folder)
    export(layout)
    digest = store.learn(folder).digest
    assert (store.paths.layouts / digest).resolve() == layout
    assert store.prepare("r2", folder) == layout
    assert store.layouts.find(folder) == layout


def test_a_touched_folder_and_a_copy_find_the_same_layout(store, folder, tmp_path):
    export(store.prepare("r1", folder))
    store.learn(folder)
    os.utime(folder / "model.safetensors")
    assert store.layouts.find(folder) is None, "not known to be the same before it was read again"
    store.learn(folder)
    found = store.layouts.find(folder)
    assert found is not None
    copy = write(tmp_path / "copy", model())
    store.learn(copy)
    assert store.prepare("r2", copy) == found


def test_content_known_before_the_first_start(store, folder):
    digest = store.learn(folder).digest
    assert store.prepare("r1", folder) == store.paths.layouts / digest


def test_changed_content_gets_another_folder(store, folder):
    store.learn(folder)
    before = store.prepare("r1", folder)
    (folder / "model.safetensors").write_bytes(weights_of(500))
    quick = store.prepare("r2", folder)
    store.learn(folder)
    after = store.prepare("r3", folder)
    assert before != quick
    assert after == quick


def test_an_evicted_layout_leaves_no_dead_link(store, folder):
    layout = store.prepare("r1", folder)
    export(layout)
    digest = store.learn(folder).digest
    store.uses.release("r1")
    store.prune(0)
    assert not layout.exists()
    assert not (store.paths.layouts / digest).is_symlink()
    assert store.prepare("r2", folder) == store.paths.layouts / digest


def test_damage_drops_what_was_made_of_it_and_refuses_the_start(store, folder):
    layout = store.prepare("r1", folder)
    export(layout)
    store.learn(folder)
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")
    with pytest.raises(Damaged):
        store.verify(folder)
    assert not layout.exists()
    with pytest.raises(Damaged, match=r"model\.safetensors is damaged"):
        store.prepare("r2", folder)


def test_without_room_an_engine_has_no_layout(make_store, folder):
    assert make_store(free_bytes=100 * 2**20).prepare("r1", folder) is None
    assert make_store(free_bytes=2**40).prepare("r1", folder) is not None
