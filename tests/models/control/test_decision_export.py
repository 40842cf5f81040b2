"""The decision record as a file: complete, once, over restarts, cut-off lines and full disks."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from models.catalog.service import DecisionSettings
from models.control.decision_export import DecisionExport
from models.control.decision_file import BEGINNING, DecisionFile
from models.store.client import connect_async
from models.store.codec import encode
from models.store.keys import Keys
from models.store.records import DecisionRecord

pytestmark = pytest.mark.anyio
KEYS = Keys()


def decision(number: int, reason: str = "") -> DecisionRecord:
    return DecisionRecord(
        id=f"{number}-0", key=f"k{number}", at_unix_s=1_700_000_000.0 + number, snapshot_id="s", action="start",
        model_id="m", reason=reason,
    )  # fmt: skip


def ids(path: Path) -> list[str]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line)["id"] for line in raw.splitlines()]


def everything(file: DecisionFile) -> list[str]:
    there = [*file.aside(), *([file.path] if file.path.exists() else [])]
    return [each for path in there for each in ids(path)]


def file_in(folder: Path, rotate: int = 1 << 20, keep: int = 3) -> DecisionFile:
    return DecisionFile(folder / "log" / "decisions.jsonl", rotate, keep)


def test_lines_are_added_and_the_last_one_is_known(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    assert file.last() == BEGINNING
    file.append([decision(1), decision(2)])
    file.append([decision(3)])
    assert (ids(file.path), file.last()) == (["1-0", "2-0", "3-0"], "3-0")
    assert json.loads(file.path.read_bytes().splitlines()[0])["key"] == "k1"


def test_a_line_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    file.append([decision(1), decision(2, "long " * 50)])
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:-40])
    assert file.last() == "1-0"
    file.append([decision(2), decision(3)])
    assert ids(file.path) == ["1-0", "2-0", "3-0"]
    file.path.write_bytes(b'{"id": "1-')
    assert file.last() == BEGINNING
    file.append([decision(1)])
    assert ids(file.path) == ["1-0"]


def test_a_large_one_is_put_aside_packed_and_only_so_many_are_kept(tmp_path: Path) -> None:
    file = file_in(tmp_path, rotate=300, keep=2)
    for number in range(1, 10):
        file.append([decision(number)])
    assert [path.suffix for path in file.aside()] == [".gz", ".gz"]
    assert len(everything(file)) < 9
    kept = [int(each.split("-")[0]) for each in everything(file)]
    assert kept == list(range(kept[0], 10)), "the oldest are gone, and nothing in between"
    assert not list(tmp_path.rglob("*.part"))


def test_right_after_it_was_put_aside_the_last_one_is_known_from_there(tmp_path: Path) -> None:
    file = file_in(tmp_path, rotate=10)
    file.append([decision(1)])
    file.append([decision(2)])
    file.path.unlink()
    assert file.last() == "1-0"


def test_two_that_are_put_aside_in_one_second_stay_in_order(tmp_path: Path) -> None:
    file = file_in(tmp_path, rotate=1, keep=9)
    for number in range(1, 5):
        file.append([msgspec.structs.replace(decision(number), at_unix_s=1_700_000_000.5)])
    assert everything(file) == ["1-0", "2-0", "3-0", "4-0"]


def test_what_somebody_else_wrote_there_stays_and_is_no_obstacle(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    file.path.parent.mkdir()
    file.path.write_text("my notes\n")
    assert file.last() == BEGINNING
    file.append([decision(1)])
    assert file.path.read_text().startswith("my notes\n{")


@pytest.fixture
async def redis(url: str) -> Any:
    client = connect_async(url)
    yield client
    await client.aclose()


async def write(redis: Redis, *numbers: int) -> None:
    for number in numbers:
        await redis.xadd(KEYS.decisions, {"d": encode(decision(number))}, id=f"{number}-0")


def exporting(redis: Redis, folder: Path, **more: Any) -> DecisionExport:
    export = DecisionExport(redis, KEYS, folder)
    export.configure(DecisionSettings(**{"export": "out/decisions.jsonl", **more}))
    return export


async def test_it_follows_the_stream_and_the_next_controller_goes_on_where_it_ended(
    redis: Redis, tmp_path: Path
) -> None:
    path = tmp_path / "out" / "decisions.jsonl"
    first = exporting(redis, tmp_path)
    await first.look()
    assert not path.exists()
    await write(redis, 1, 2)
    await first.look()
    await write(redis, 3)
    await first.look()
    await first.look()
    await write(redis, 4)
    await exporting(redis, tmp_path).look()
    assert ids(path) == ["1-0", "2-0", "3-0", "4-0"]


async def test_more_than_a_page_at_once(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.control.decision_export.PAGE", 3)
    await write(redis, *range(1, 9))
    await exporting(redis, tmp_path).look()
    assert ids(tmp_path / "out" / "decisions.jsonl") == [f"{number}-0" for number in range(1, 9)]


async def test_what_is_no_decision_is_left_out(redis: Redis, tmp_path: Path) -> None:
    await write(redis, 1)
    await redis.xadd(KEYS.decisions, {"d": b"?"}, id="2-0")
    await redis.xadd(KEYS.decisions, {"other": b"1"}, id="3-0")
    await redis.xadd(KEYS.decisions, {"d": b'"\xff"'}, id="4-0")
    await write(redis, 5)
    await exporting(redis, tmp_path).look()
    assert ids(tmp_path / "out" / "decisions.jsonl") == ["1-0", "5-0"]


async def test_without_a_path_nothing_is_written_and_a_new_configuration_counts_at_once(
    redis: Redis, tmp_path: Path
) -> None:
    export = DecisionExport(redis, KEYS, tmp_path)
    await write(redis, 1)
    export.configure(DecisionSettings())
    await export.look()
    assert list(tmp_path.iterdir()) == []
    export.configure(DecisionSettings(export="a.jsonl"))
    await export.look()
    export.configure(DecisionSettings(export="b.jsonl"))
    await write(redis, 2)
    await export.look()
    assert (ids(tmp_path / "a.jsonl"), ids(tmp_path / "b.jsonl")) == (["1-0"], ["1-0", "2-0"])


async def test_a_place_that_cannot_be_written_is_said_once_and_tried_again(
    redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out").write_text("a file where a folder should be")
    export = exporting(redis, tmp_path)
    await write(redis, 1)
    with caplog.at_level("INFO", logger="roundhouse.control"):
        await export.look()
        await export.look()
        assert len([each for each in caplog.messages if "cannot be written" in each]) == 1
        (tmp_path / "out").unlink()
        await export.look()
    assert "again" in caplog.messages[-1]
    assert ids(tmp_path / "out" / "decisions.jsonl") == ["1-0"]


async def test_a_store_that_is_away_is_waited_for(tmp_path: Path) -> None:
    export = DecisionExport(connect_async(f"unix://{tmp_path}/nobody.sock"), KEYS, tmp_path)
    export.configure(DecisionSettings(export="a.jsonl"))
    await export.look()
    assert not (tmp_path / "a.jsonl").exists()


def test_a_packed_file_that_was_cut_off_is_no_beginning_of_an_end(tmp_path: Path) -> None:
    """The machine died before it was on the disk: decisions are written again, from the beginning of the stream."""
    file = file_in(tmp_path)
    file.append([decision(1)])
    aside = file.path.with_name("decisions-20261122T093011-000.jsonl.gz")
    packed = gzip.compress(file.path.read_bytes())
    file.path.unlink()
    for found in (packed[:-6], packed[:12] + bytes(40), b"no gzip at all"):
        aside.write_bytes(found)
        assert file.last() == BEGINNING


@pytest.mark.parametrize("line", [b'{"id": "\xff"}', b'{"id": "yesterday"}', b"\xff\xfe"])
def test_a_last_line_of_somebody_else_names_no_decision(tmp_path: Path, line: bytes) -> None:
    file = file_in(tmp_path)
    file.append([decision(1)])
    with file.path.open("ab") as open_file:
        open_file.write(line + b"\n")
    assert file.last() == BEGINNING


async def test_whatever_goes_wrong_with_the_file_does_not_end_the_controller(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    looks = 0

    async def pause(seconds: float) -> None:
        if looks == 2:
            raise asyncio.CancelledError

    class Broken(DecisionExport):
        async def look(self) -> None:
            nonlocal looks
            looks += 1
            raise RuntimeError("a bug")

    with pytest.raises(asyncio.CancelledError):
        await Broken(connect_async(f"unix://{tmp_path}/nobody.sock"), KEYS, tmp_path, sleep=pause).run()
    assert looks == 2
    assert "a bug" in caplog.text
