"""Reading again in the background: in turn, at a rate, and what is found bad does not stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.weights.caretaker import LOOK_S, Caretaker
from models.weights.errors import Damaged
from models.weights.hashing import Pace
from models.weights.locks import tried
from models.weights.node import NodeWeights
from models.weights.records import Settings
from models.weights.urls import FolderUrl
from tests.models.weights.conftest import model, write

DAY_S = 86_400.0


def scrub_all(store, limit=50):
    """Findings until nothing is due."""
    found = []
    while (target := store.scrub.due()) is not None:
        found.append(store.scrub.check(target, Pace()))
        assert len(found) < limit
    return found


@pytest.fixture
def copied(store, folder):
    """A model whose content was promised when it was imported."""
    return Path(store.fetch(FolderUrl(folder), copy=True).folder)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_what_was_read_lately_is_not_due(store, copied, clock):
    assert store.scrub.due() is None
    clock.now_s += 8 * DAY_S
    assert [each.target.name for each in scrub_all(store)] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert store.scrub.due() is None


def test_the_oldest_comes_first(store, copied, clock, tmp_path):
    clock.now_s += 5 * DAY_S
    other = write(tmp_path / "other", model(fill=3))
    store.learn(other)
    clock.now_s += 3 * DAY_S
    assert {each.target.folder for each in scrub_all(store)} == {copied}


def test_damage_is_written_down_its_layouts_go_and_the_start_is_refused(store, copied, clock):
    layout = store.prepare("r1", copied)
    (layout / "key.safetensors").write_bytes(b"x")
    flip(copied / "model.safetensors")
    clock.now_s += 8 * DAY_S
    problems = [each.problem for each in scrub_all(store) if each.problem]
    assert problems == ["the file model.safetensors is damaged: its SHA-256 is not the one it had when it was imported"]
    assert not layout.exists()
    with pytest.raises(Damaged):
        store.prepare("r2", copied)
    clock.now_s += 8 * DAY_S
    assert [each.target.name for each in scrub_all(store)] == ["config.json", "tokenizer.json"], "it is known"


class TestLayouts:
    @pytest.fixture
    def layout(self, store, folder):
        path = store.prepare("r1", folder) / "key.safetensors"
        path.write_bytes(b"layout" * 1000)
        return path

    def manifest(self, layout, sha256):
        layout.with_suffix(".json").write_text(json.dumps({"format": 1, "key": "key", "sha256": sha256}))

    def test_its_manifest_says_otherwise(self, store, layout):
        self.manifest(layout, "0" * 64)
        [found] = scrub_all(store)
        assert found.problem == "the layout key.safetensors was damaged and is made anew at the next start"
        assert list(layout.parent.iterdir()) == []

    def test_without_a_sum_it_is_compared_with_how_it_was(self, store, layout, clock, monkeypatch):
        self.manifest(layout, None)
        assert [each.problem for each in scrub_all(store)] == [None]
        clock.now_s += 8 * DAY_S
        status = layout.stat()
        flip(layout)
        real = type(store.scrub)._record

        def unnoticed(self, folder):  # as if nobody had written
            from models.weights.stats import FileStat

            record = real(self, folder)
            checks = {
                name: type(each)(stat=FileStat.of(layout), sha256=each.sha256, checked_unix_s=each.checked_unix_s)
                for name, each in record.files.items()
            }
            return type(record)(files=checks)

        assert status.st_size == layout.stat().st_size
        monkeypatch.setattr(type(store.scrub), "_record", unnoticed)
        assert "was damaged" in (scrub_all(store)[0].problem or "")

    def test_one_that_was_made_anew_is_another(self, store, layout, clock):
        scrub_all(store)
        layout.write_bytes(b"new" * 1000)
        assert [each.problem for each in scrub_all(store)] == [None]


class TestCaretaker:
    def test_a_folder_is_learnt_beside_the_engine(self, store, folder):
        layout = store.prepare("r1", folder)
        Caretaker(store).learn_now(folder)
        assert (store.paths.layouts / store.book.read(folder).digest).resolve() == layout

    def test_damage_found_on_the_way_is_no_end_of_it(self, store, folder):
        (folder / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")
        Caretaker(store).learn_now(folder)
        with pytest.raises(Damaged):
            store.refuse_damaged(folder)

    def test_it_keeps_the_quota_and_reads_one_file_a_look(self, store, copied, clock):
        layout = store.prepare("r1", copied)
        (layout / "key.safetensors").write_bytes(b"x" * 5000)
        store.uses.release("r1")
        clock.now_s += 8 * DAY_S
        store.space.stamp(copied, str(copied))
        store.configure(Settings(quota_bytes=100_000, scrub_bytes_per_s=10**9))
        caretaker = Caretaker(store)
        caretaker.look_around()
        assert [item.kind for item in store.items()] == ["download", "layout"] or [
            item.kind for item in store.items()
        ] == ["layout", "download"]
        store.configure(Settings(quota_bytes=70_000, scrub_bytes_per_s=10**9))
        caretaker.look_around()
        assert [item.kind for item in store.items()] == ["download"]

    def test_one_process_at_a_time(self, store, copied):
        store.configure(Settings(quota_bytes=0))
        with tried(store.paths.lock("caretaker")) as mine:
            assert mine
            Caretaker(store).look_around()
        assert store.items() != []

    def test_no_scrub_where_none_is_wanted(self, store, copied, clock):
        clock.now_s += 8 * DAY_S
        store.configure(Settings(scrub_bytes_per_s=0))
        due = store.scrub.due()
        Caretaker(store).look_around()
        assert store.scrub.due() == due

    def test_its_thread_does_what_it_is_told_and_ends(self, store, folder):
        caretaker = Caretaker(store).open()
        caretaker.learn(folder)
        caretaker.learn(folder / "none")
        caretaker.learn(folder)
        caretaker.settle()
        caretaker.close()
        assert store.book.identity(folder)[1] is not None
        assert LOOK_S > 0


class TestNode:
    def test_an_engines_life(self, tmp_path, folder):
        import os

        weights = NodeWeights(tmp_path / "store").open()
        layout = Path(weights.prepare("r1", str(folder)))
        (layout / "key.safetensors").write_bytes(b"x" * 100)
        weights.running("r1", os.getpid(), str(folder))
        assert weights.tiers({"m": str(folder), "n": str(folder / "none")}) == {"m": "page_cache", "n": "remote"}
        assert [item.held for item in weights.store.items()] == ["r1 needs it"]
        weights.ended("r1")
        assert [item.held for item in weights.store.items()] == [""]
        weights.close()

    def test_a_store_that_cannot_be_written_costs_speed_alone(self, tmp_path, folder):
        (tmp_path / "store").write_text("a file")
        weights = NodeWeights(tmp_path / "store")
        assert weights.prepare("r1", str(folder)) == ""
        weights.running("r1", 1, str(folder))
        weights.ended("r1")
