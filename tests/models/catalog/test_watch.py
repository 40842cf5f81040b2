"""The configuration is watched: changes are noticed once they are whole, and a bad one never replaces a good one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.catalog.watch import Changed, ConfigWatcher, Rejected

ONE = "models: [{model_id: one, model_source: x}]"
TWO = "models: [{model_id: one, model_source: x}, {model_id: two, model_source: x}]"
BAD = "models: [{model_id: one}]"


class Watched:
    """A watcher on its own clock; every look comes one poll after the last."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "roundhouse.yaml"
        self.watcher = ConfigWatcher(self.path, poll_s=1.0)
        self.now = 100.0
        self._edits = 0

    def write(self, text: str, path: Path | None = None) -> None:
        file = path or self.path
        file.write_text(text)
        self._edits += 1
        os.utime(file, ns=(0, self._edits * 1_000_000_000))  # every edit has its own time, however quick the test is

    def look(self) -> list[str]:
        """What the next two polls saw: the ids of a new catalog, or a refusal."""
        seen = []
        for _ in range(2):
            self.now += 1.0
            match self.watcher.poll(self.now):
                case Changed(config):
                    seen.append(",".join(card.model_id for card in config.models))
                case Rejected(error):
                    seen.append(f"rejected {error.field}")
        return seen

    @property
    def in_force(self) -> list[str]:
        assert self.watcher.config is not None
        return [card.model_id for card in self.watcher.config.models]


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_the_first_poll_loads_at_once_and_then_all_is_quiet(watched):
    watched.write(ONE)
    assert isinstance(watched.watcher.poll(0.0), Changed)
    assert watched.look() == []
    assert watched.look() == []


def test_a_change_is_loaded_once(watched):
    watched.write(ONE)
    assert watched.look() == ["one"]
    watched.write(TWO)
    assert watched.look() == ["one,two"]
    assert watched.look() == []
    assert watched.in_force == ["one", "two"]


def test_a_bad_change_is_told_once_and_the_good_one_stays(watched):
    watched.write(ONE)
    watched.look()
    watched.write(BAD)
    assert watched.look() == ["rejected models[0].model_source"]
    assert watched.look() == []
    assert watched.in_force == ["one"]


def test_going_back_to_the_good_one_is_a_change_too(watched):
    watched.write(ONE)
    watched.look()
    watched.write(BAD)
    watched.look()
    watched.write(ONE)
    assert watched.look() == ["one"]


def test_another_mistake_is_told_again(watched):
    watched.write(ONE)
    watched.look()
    watched.write(BAD)
    watched.look()
    watched.write("modles: []")
    assert watched.look() == ["rejected modles"]


def test_a_remark_changes_nothing(watched):
    watched.write(ONE)
    watched.look()
    watched.write(ONE + "  # a remark")
    assert watched.look() == []


def test_a_file_in_the_middle_of_being_written_is_not_loaded(watched):
    watched.write(TWO)
    watched.look()
    watched.write(ONE)  # half of the next version, and valid
    watched.now += 1.0
    assert watched.watcher.poll(watched.now) is None
    watched.write(TWO.replace("two", "three"))
    watched.now += 1.0
    assert watched.watcher.poll(watched.now) is None
    assert watched.look() == ["one,three"]


def test_between_polls_nothing_is_looked_at(watched):
    watched.write(ONE)
    watcher = watched.watcher
    assert isinstance(watcher.poll(10.0), Changed)
    watched.write(TWO)
    assert watcher.poll(10.9) is None
    assert watcher.poll(11.0) is None  # seen
    assert watcher.poll(11.9) is None
    assert isinstance(watcher.poll(12.0), Changed)


def test_a_file_that_goes_away_and_comes_back(watched):
    watched.write(ONE)
    watched.look()
    watched.path.unlink()
    assert watched.look() == ["rejected "]
    assert watched.in_force == ["one"]
    watched.write(TWO)
    assert watched.look() == ["one,two"]


def test_starting_without_a_good_configuration(watched):
    assert watched.look() == ["rejected "]
    assert watched.watcher.config is None
    watched.write(BAD)
    assert watched.look() == ["rejected models[0].model_source"]
    watched.write(ONE)
    assert watched.look() == ["one"]


def test_a_file_that_is_replaced_is_noticed_by_its_identity(watched):
    watched.write(ONE)
    watched.look()
    before = watched.path.stat()
    fresh = watched.path.with_name("fresh")
    fresh.write_text(ONE.replace("one", "two"))
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.rename(watched.path)
    assert watched.path.stat().st_size == before.st_size
    assert watched.look() == ["two"]


class TestFolderOfCards:
    @pytest.fixture
    def folder(self, watched: Watched) -> Path:
        folder = watched.path.parent / "cards"
        folder.mkdir()
        watched.write("models_dir: cards")
        watched.write("{model_id: one, model_source: x}", folder / "one.yaml")
        assert watched.look() == ["one"]
        return folder

    def test_a_card_is_added_changed_and_removed(self, watched, folder):
        watched.write("{model_id: two, model_source: x}", folder / "two.yaml")
        assert watched.look() == ["one,two"]
        watched.write("{model_id: three, model_source: x}", folder / "two.yaml")
        assert watched.look() == ["one,three"]
        (folder / "one.yaml").unlink()
        assert watched.look() == ["three"]

    def test_other_files_there_do_not_matter(self, watched, folder):
        (folder / "two.yaml.swp").write_text("x")
        assert watched.look() == []

    def test_a_bad_card_rejects_the_whole_change(self, watched, folder):
        watched.write("{model_id: two}", folder / "two.yaml")
        assert watched.look() == ["rejected model_source"]
        assert watched.in_force == ["one"]
        watched.write("{model_id: two, model_source: x}", folder / "two.yaml")
        assert watched.look() == ["one,two"]

    def test_the_folder_is_watched_while_the_file_is_broken(self, watched, folder):
        watched.write("models_dir: cards\nmodels: [")
        assert watched.look() == ["rejected "]
        watched.write("models_dir: cards")
        watched.write("{model_id: two, model_source: x}", folder / "two.yaml")
        assert watched.look() == ["one,two"]

    def test_the_folder_can_go_away_and_come_back(self, watched, folder):
        away = folder.rename(folder.with_name("away"))
        assert watched.look() == ["rejected models_dir"]
        assert watched.in_force == ["one"]
        away.rename(folder)
        assert watched.look() == ["one"]

    def test_another_folder_is_followed(self, watched, folder):
        other = folder.with_name("other")
        other.mkdir()
        watched.write("{model_id: new, model_source: x}", other / "new.yaml")
        watched.write("models_dir: other")
        assert watched.look() == ["new"]
        watched.write("{model_id: newer, model_source: x}", other / "new.yaml")
        assert watched.look() == ["newer"]


def test_read_now_does_not_wait_for_files_to_settle(watched):
    watched.write(ONE)
    watched.look()
    watched.write(TWO)
    assert isinstance(watched.watcher.read_now(), Changed)
    assert watched.in_force == ["one", "two"]
    assert watched.watcher.read_now() is None
    watched.write(BAD)
    assert isinstance(watched.watcher.read_now(), Rejected)
    assert isinstance(watched.watcher.read_now(), Rejected), "as often as it is asked"
    assert watched.in_force == ["one", "two"]
    assert watched.look() == []
