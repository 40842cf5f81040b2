"""The quota, the disk, and what is held: stories on a store whose disk has the size that a test says."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.weights.errors import Busy, NoRoom
from models.weights.records import Settings, Use, save
from models.weights.space import RESERVE_BYTES
from models.weights.urls import FolderUrl
from tests.models.weights.conftest import MiB, model, write


def layout(store, name, size_bytes=MiB, source=""):
    path = store.paths.layouts / name
    path.mkdir(parents=True)
    (path / "key.safetensors").write_bytes(b"x" * size_bytes)
    store.space.stamp(path, source or f"/models/{name}")
    return path


def names(items):
    return sorted(item.path.name for item in items)


class TestQuota:
    def test_it_is_whoever_was_not_used_longest(self, store, clock):
        for name in ("a", "b", "c"):
            clock.now_s += 10
            layout(store, name)
        store.space.stamp(store.paths.layouts / "a", "/models/a")  # used again
        store.configure(Settings(quota_bytes=2 * MiB))
        assert names(store.prune().victims) == ["b"]
        assert names(store.items()) == ["a", "c"]

    def test_a_dry_run_removes_nothing(self, store):
        layout(store, "a")
        assert names(store.prune(0, dry_run=True).victims) == ["a"]
        assert names(store.items()) == ["a"]

    def test_what_an_engine_runs_from_stays(self, store):
        path = layout(store, "a")
        store.uses.hold("r1", os.getpid(), Path("/models/a"), path)
        choice = store.prune(0)
        assert choice.victims == ()
        assert choice.short_bytes == MiB
        assert store.items()[0].held == "r1 needs it"
        store.uses.release("r1")
        assert names(store.prune(0).victims) == ["a"]

    def test_an_engine_that_died_holds_nothing(self, store):
        path = layout(store, "a")
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        store.uses.hold("r1", child.pid, Path("/models/a"), path)
        assert store.prune(0).victims == ()
        child.kill()
        child.wait()
        assert names(store.prune(0).victims) == ["a"]

    def test_a_pid_that_is_another_process_now_holds_nothing(self, store):
        path = layout(store, "a")
        use = Use(name="r1", pid=os.getpid(), started_ticks=1, folder="", layout=str(path))
        save(store.paths.uses / "r1.json", use)
        assert names(store.prune(0).victims) == ["a"]

    def test_an_engine_takes_over_from_whoever_ordered_it(self, store, folder):
        prepared = store.prepare("r1", folder)
        store.uses.hand_over("r1", os.getppid())
        [use] = store.uses.alive()
        assert (use.pid, use.folder, use.layout) == (os.getppid(), str(folder), str(prepared))

    def test_what_any_process_has_mapped_stays(self, store):
        path = layout(store, "a")
        with (path / "key.safetensors").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
            assert store.prune(0).victims == ()
            assert store.items()[0].held == "a process has it mapped"
        assert names(store.prune(0).victims) == ["a"]

    def test_what_nobody_names_any_more_goes_first(self, store):
        layout(store, "a")
        (store.paths.downloads / "old").mkdir(parents=True)
        (store.paths.downloads / "old" / "w.safetensors").write_bytes(b"x" * 100)
        assert names(store.prune().victims) == ["old"]

    def test_what_a_crash_left_in_the_trash_goes_with_the_next(self, store):
        (store.paths.trash / "half").mkdir(parents=True)
        store.prune()
        assert not (store.paths.trash / "half").exists()


class TestRoom:
    def test_others_go_for_what_comes(self, store, tmp_path, clock):
        clock.now_s += 10
        layout(store, "a", MiB)
        store.configure(Settings(quota_bytes=MiB + 1000))
        source = write(tmp_path / "m", model(10_000))
        store.fetch(FolderUrl(source), copy=True)
        assert [item.kind for item in store.items()] == ["download"]

    def test_more_than_the_quota_is_refused_before_a_byte_comes(self, store, tmp_path):
        layout(store, "a", 1000)
        store.configure(Settings(quota_bytes=5000))
        with pytest.raises(NoRoom) as caught:
            store.fetch(FolderUrl(write(tmp_path / "m", model(10_000))), copy=True)
        assert "but the quota of 4.88 KiB leaves room for 4.88 KiB beside what is in use" in caught.value.message
        assert "raise weights.quota" in caught.value.cure
        assert names(store.items()) == ["a"], "what would not have been enough was not sacrificed either"

    def test_what_runs_counts(self, store, tmp_path):
        path = layout(store, "a", 50_000)
        store.uses.hold("r1", os.getpid(), Path("/models/a"), path)
        store.configure(Settings(quota_bytes=55_000))
        with pytest.raises(NoRoom, match=r"leaves room for 4\.88 KiB beside what is in use"):
            store.fetch(FolderUrl(write(tmp_path / "m", model(10_000))), copy=True)

    def test_a_full_disk_is_refused_before_a_byte_comes(self, make_store, tmp_path):
        store = make_store(free_bytes=RESERVE_BYTES + 3000)
        with pytest.raises(NoRoom) as caught:
            store.fetch(FolderUrl(write(tmp_path / "m", model(10_000))), copy=True)
        assert "but the disk has room for 2.93 KiB more" in caught.value.message
        assert store.items() == []

    def test_a_disk_that_becomes_full_meanwhile_is_left_as_it_was(self, store, tmp_path, monkeypatch):
        def full(self, chunk):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("models.weights.part_file.PartFile.append", full)
        with pytest.raises(NoRoom, match="the disk became full meanwhile; what had arrived was removed"):
            store.fetch(FolderUrl(write(tmp_path / "m", model(10_000))), copy=True)
        assert store.items() == []


class TestRemove:
    def test_a_source_goes_with_all_that_was_made_of_it(self, store, tmp_path):
        source = write(tmp_path / "m", model(10_000))
        record = store.fetch(FolderUrl(source), copy=True)
        made = store.prepare("r1", Path(record.folder))
        (made / "key.safetensors").write_bytes(b"x")
        with pytest.raises(Busy, match="is in use"):
            store.remove(str(source))
        store.uses.release("r1")
        assert [item.kind for item in store.remove(str(source), dry_run=True)] == ["layout", "download"]
        assert store.find(str(source)) is not None
        store.remove(str(source))
        assert store.items() == []
        assert store.find(str(source)) is None
        assert source.is_dir(), "the folder that it was copied from is somebody else's"

    def test_a_reference_loses_only_its_layouts(self, store, folder):
        store.fetch(FolderUrl(folder))
        assert store.find(str(folder)) == folder
        layout(store, "a", source=str(folder))
        assert [item.kind for item in store.remove(str(folder))] == ["layout"]
        assert folder.is_dir()
        assert store.find(str(folder)) is None
