"""Edits that are taken up, and edits that are not, while everything runs on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.standalone.reload import Edited, Reload
from gateway.standalone.watching import WatchedFile
from tests.gateway.standalone.test_watching import number
from tests.gateway.world import until

pytestmark = pytest.mark.anyio


class Edit:
    """A file with a number, read already, and what was taken of it since."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text("1")
        self.taken: list[int] = []
        file = WatchedFile(path, number)
        file.read()
        self.edited = Edited(file, self.taken.append)


@pytest.fixture
def edit(tmp_path: Path) -> Edit:
    return Edit(tmp_path / "number")


async def test_a_change_is_taken_once(edit: Edit) -> None:
    edit.path.write_text("20")
    await edit.edited.look(now=False)
    assert edit.taken == [], "it has not settled"
    await edit.edited.look(now=False)
    await edit.edited.look(now=False)
    assert edit.taken == [20]


async def test_an_announced_change_is_taken_at_once(edit: Edit) -> None:
    edit.path.write_text("20")
    await edit.edited.look(now=True)
    assert edit.taken == [20]


async def test_a_wrong_edit_changes_nothing_and_the_next_right_one_counts(edit: Edit) -> None:
    edit.path.write_text("two")
    await edit.edited.look(now=True)
    assert edit.taken == []
    assert edit.edited.rejected
    edit.path.write_text("22")
    await edit.edited.look(now=True)
    assert edit.taken == [22]
    assert not edit.edited.rejected


async def test_the_problems_of_a_wrong_edit_are_told(edit: Edit, caplog: pytest.LogCaptureFixture) -> None:
    import structlog

    edit.path.write_text("two")
    with structlog.testing.capture_logs() as logs:
        await edit.edited.look(now=True)
    (told,) = logs
    assert told["log_level"] == "error"
    assert told["file"] == "number"
    assert "write a number" in told["problems"][0]


async def test_files_are_watched_side_by_side(tmp_path: Path) -> None:
    one, other = Edit(tmp_path / "one"), Edit(tmp_path / "other")
    reload = Reload((one.edited, other.edited))
    running = asyncio.create_task(reload.run())
    other.path.write_text("two")
    one.path.write_text("20")
    reload.hurry()
    await until(lambda: one.taken and reload.rejected)
    other.path.write_text("22")
    reload.hurry()
    await until(lambda: other.taken)
    running.cancel()
    assert (one.taken[0], other.taken, reload.rejected) == (20, [22], False)
