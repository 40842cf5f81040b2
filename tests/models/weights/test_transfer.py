"""Bytes that arrive in pieces: pauses, ranges that are not known, lies about size and content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from models.weights.checksums import Expected
from models.weights.errors import Damaged, TransferFailed
from models.weights.paths import StorePaths
from models.weights.progress import Meter
from models.weights.remote import Listing, RemoteFile
from models.weights.transfer import TRIES, Transfer, arrived_files, present_bytes
from models.weights.urls import HubUrl, SourceUrl

DATA = bytes(range(256)) * 40
SHA256 = Expected("sha256", hashlib.sha256(DATA).hexdigest(), "the hub")


@dataclass
class Scripted:
    """A remote. ``ends``: after how many bytes each read of ``w`` breaks off; then all of it comes."""

    content: dict[str, bytes]
    ends: list[int] = field(default_factory=list)
    ranges: bool = True
    read_from: list[tuple[str, int]] = field(default_factory=list)

    @property
    def url(self) -> SourceUrl:
        return HubUrl("org/tiny", "main")

    def listing(self) -> Listing:
        files = (
            RemoteFile(name, len(data), "t", Expected("sha256", hashlib.sha256(data).hexdigest(), "the hub"))
            for name, data in self.content.items()
        )
        return Listing("v", tuple(files))

    def read(self, file: RemoteFile, offset: int) -> tuple[int, Iterator[bytes]]:
        self.read_from.append((file.name, offset))
        began = offset if self.ranges else 0
        # Files come at the same time: in which order they are read is not told.
        end = self.ends.pop(0) if self.ends and file.name == "w" else len(self.content[file.name])
        return began, self._chunks(self.content[file.name][began:], end)

    def _chunks(self, data: bytes, end: int) -> Iterator[bytes]:
        for place in range(0, len(data), 1000):
            if place >= end:
                raise TransferFailed("the line is dead")
            yield data[place : place + 1000]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "partial"


@pytest.fixture
def meter(tmp_path, clock):
    meter = Meter(StorePaths(tmp_path), "hf://org/tiny@main", clock=clock)
    meter.begin(len(DATA), 1, 0, 0)
    return meter


def run(remote, folder, meter, clock, **more):
    return Transfer(remote, folder, meter, clock=clock, sleep=clock.sleep, **more).run(remote.listing())


def test_all_files_come_with_their_sums(folder, meter, clock):
    files = run(Scripted({"a/w.bin": DATA, "b": b""}), folder, meter, clock)
    assert (folder / "a/w.bin").read_bytes() == DATA
    assert (folder / "b").read_bytes() == b""
    assert files["a/w.bin"].sha256 == SHA256.value
    assert files["a/w.bin"].against == "the hub"
    assert files["a/w.bin"].fixed
    assert not list(folder.glob("**/*.part"))


def test_a_broken_line_is_taken_up_where_it_broke(folder, meter, clock):
    remote = Scripted({"w": DATA}, ends=[3000, 2000])
    run(remote, folder, meter, clock)
    assert remote.read_from == [("w", 0), ("w", 3000), ("w", 5000)]
    assert meter.progress.bytes_done == len(DATA)


def test_pauses_grow_while_nothing_comes_and_it_gives_up(folder, meter, clock):
    with pytest.raises(TransferFailed, match="the line is dead"):
        run(Scripted({"w": DATA}, ends=[2000, *[0] * 20]), folder, meter, clock)
    assert clock.slept_s == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert len(clock.slept_s) == TRIES
    assert (folder / "w.part").stat().st_size == 2000, "kept for the next attempt"


def test_another_attempt_goes_on(folder, meter, clock):
    with pytest.raises(TransferFailed):
        run(Scripted({"v": b"1", "w": DATA}, ends=[4000, *[0] * 20]), folder, meter, clock)
    remote = Scripted({"v": b"1", "w": DATA})
    # Both come at the same time: the small one may be there already.
    assert present_bytes(folder, remote.listing()) in ((4001, 1), (4000, 0))
    files = run(remote, folder, meter, clock)
    assert [each for each in remote.read_from if each[0] == "w"] == [("w", 4000)]
    assert files.keys() == {"v", "w"}
    assert (folder / "w").read_bytes() == DATA


def test_the_other_side_knows_no_ranges(folder, meter, clock):
    remote = Scripted({"w": DATA}, ends=[3000], ranges=False)
    run(remote, folder, meter, clock)
    assert (folder / "w").read_bytes() == DATA
    assert meter.progress.bytes_done == len(DATA)


def test_a_leftover_of_a_crash_that_is_wrong_is_fetched_again(folder, meter, clock):
    folder.mkdir()
    (folder / "w.part").write_bytes(b"\0" * 4000)
    remote = Scripted({"w": DATA})
    run(remote, folder, meter, clock)
    assert remote.read_from == [("w", 4000), ("w", 0)]
    assert (folder / "w").read_bytes() == DATA


def test_a_leftover_that_is_too_long(folder, meter, clock):
    folder.mkdir()
    (folder / "w.part").write_bytes(DATA + b"more")
    remote = Scripted({"w": DATA})
    run(remote, folder, meter, clock)
    assert remote.read_from == []


def test_wrong_bytes_are_refused_and_not_kept(folder, meter, clock):
    remote = Scripted({"w": DATA})
    wrong = {"w": Expected("sha256", "0" * 64, "SHA256SUMS")}
    with pytest.raises(Damaged, match="w arrived damaged: its checksum is not the one that SHA256SUMS names"):
        run(remote, folder, meter, clock, sums=wrong)
    assert not (folder / "w").exists()
    assert (folder / "w.part").stat().st_size == 0


def test_more_than_was_listed(folder, meter, clock):
    remote = Scripted({"w": DATA})
    listing = Listing("v", (RemoteFile("w", len(DATA) - 1, "t"),))
    with pytest.raises(Damaged, match="w is larger than its source said"):
        Transfer(remote, folder, meter, clock=clock, sleep=clock.sleep).run(listing)


def test_less_than_was_listed(folder, meter, clock):
    remote = Scripted({"w": DATA})
    listing = Listing("v", (RemoteFile("w", len(DATA) + 1, "t"),))
    with pytest.raises(TransferFailed, match="w broke off"):
        Transfer(remote, folder, meter, clock=clock, sleep=clock.sleep).run(listing)


def test_a_whole_file_that_was_changed_meanwhile_is_not_taken_for_whole(folder, meter, clock):
    remote = Scripted({"w": DATA})
    run(remote, folder, meter, clock)
    assert arrived_files(folder, remote.listing()).keys() == {"w"}
    (folder / "w").write_bytes(DATA)
    assert arrived_files(folder, remote.listing()) == {}
