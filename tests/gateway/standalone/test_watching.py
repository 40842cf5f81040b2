"""A file that is edited while it is watched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.standalone.watching import WatchedFile
from models.catalog.errors import ConfigError, Problem


def number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError) as wrong:
        raise ConfigError((Problem(path.name, "", str(wrong), "write a number"),)) from None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "number"
    path.write_text("1")
    return path


@pytest.fixture
def watched(path: Path) -> WatchedFile[int]:
    watched = WatchedFile(path, number)
    assert watched.read() == 1
    return watched


def test_a_change_counts_once_it_has_settled(path: Path, watched: WatchedFile[int]) -> None:
    assert not watched.changed()
    path.write_text("20")
    assert not watched.changed(), "somebody may still be writing"
    path.write_text("200")
    assert not watched.changed()
    assert watched.changed()
    assert watched.read() == 200
    assert not watched.changed()


def test_it_can_be_read_at_any_time(path: Path, watched: WatchedFile[int]) -> None:
    path.write_text("20")
    assert watched.read() == 20
    assert not watched.changed()
    assert not watched.changed()


def test_what_cannot_be_read_is_read_once_and_its_cure_is_noticed(path: Path, watched: WatchedFile[int]) -> None:
    path.write_text("two")
    watched.changed()
    assert watched.changed()
    with pytest.raises(ConfigError, match="write a number"):
        watched.read()
    assert not watched.changed()
    path.write_text("22")
    watched.changed()
    assert watched.changed()
    assert watched.read() == 22


def test_a_file_that_was_replaced_by_another_of_the_same_size_and_time_is_noticed(
    path: Path, watched: WatchedFile[int], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("3")
    stat = path.stat()
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(path)
    watched.changed()
    assert watched.changed()
    assert watched.read() == 3


def test_a_file_that_is_gone_is_noticed_and_so_is_its_return(path: Path, watched: WatchedFile[int]) -> None:
    path.unlink()
    watched.changed()
    assert watched.changed()
    with pytest.raises(ConfigError):
        watched.read()
    assert not watched.changed()
    path.write_text("1")
    watched.changed()
    assert watched.changed()


# -- after a worker's death --------------------------------------------------------------------------------------------


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    memory = tmp_path / "memory"
    memory.mkdir()
    return memory


def test_a_successor_takes_the_last_right_state_while_a_wrong_edit_lies_there(path: Path, memory: Path) -> None:
    assert WatchedFile(path, number, memory).read_first() == (1, None)
    path.write_text("two")
    found, wrong = WatchedFile(path, number, memory).read_first()
    assert found == 1
    assert "write a number" in str(wrong)
    path.write_text("3")
    assert WatchedFile(path, number, memory).read_first() == (3, None)
    path.unlink()
    assert WatchedFile(path, number, memory).read_first()[0] == 3


def test_what_a_worker_took_since_is_what_its_successor_takes(path: Path, memory: Path) -> None:
    watched = WatchedFile(path, number, memory)
    watched.read_first()
    path.write_text("2")
    watched.read()
    path.write_text("three")
    with pytest.raises(ConfigError):
        watched.read()
    assert WatchedFile(path, number, memory).read_first()[0] == 2


def test_the_first_of_all_has_nothing_to_fall_back_on(path: Path, memory: Path) -> None:
    path.write_text("one")
    for known in (None, memory):
        with pytest.raises(ConfigError, match="write a number"):
            WatchedFile(path, number, known).read_first()


def test_what_changed_while_it_was_read_is_not_remembered(path: Path, memory: Path) -> None:
    def slowly(read: Path) -> int:
        found = number(read)
        path.write_text("four")
        return found

    WatchedFile(path, number, memory).read_first()
    path.write_text("3")
    assert WatchedFile(path, slowly, memory).read() == 3
    assert WatchedFile(path, number, memory).read_first()[0] == 1


def test_the_memory_is_private_and_holds_nothing_else(path: Path, memory: Path) -> None:
    WatchedFile(path, number, memory).read_first()
    (copy,) = memory.iterdir()
    assert copy.stat().st_mode & 0o077 == 0
