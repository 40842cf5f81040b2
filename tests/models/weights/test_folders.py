"""What is known of a model's folder: its content's name, and what is damaged in it."""

from __future__ import annotations

import hashlib
import os

import pytest

from models.weights.errors import Busy, Damaged
from models.weights.hashing import Pace, Stopped, hash_file
from models.weights.records import content_digest
from models.weights.stats import FileStat
from tests.models.weights.conftest import model, weights_of, write


def rot(path, place=-1):
    """Change a byte without anybody having written: the status is as it was."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    with path.open("r+b") as file:
        file.write(content)


@pytest.fixture
def book(store):
    return store.book


@pytest.fixture
def unnoticed(monkeypatch):
    """Writes to files move no time any more, as when the disk is at fault."""
    read = FileStat.read
    monkeypatch.setattr(FileStat, "read", classmethod(lambda cls, status: FileStat(read(status).size_bytes, 1, 1, 1)))


class TestContent:
    def test_it_is_known_once_it_was_read(self, book, folder):
        before, digest = book.identity(folder)
        assert digest is None
        record = book.learn(folder)
        sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        assert book.identity(folder) == (before, record.digest)
        assert record.digest == content_digest(sums)

    @pytest.mark.parametrize("change", ["content", "touch", "more", "less", "same size"])
    def test_any_change_is_another_name_at_once(self, book, folder, change):
        was, _ = book.identity(folder)
        digest = book.learn(folder).digest
        weights = folder / "model.safetensors"
        match change:
            case "content":
                weights.write_bytes(weights_of(100))
            case "touch":
                os.utime(weights, ns=(1, 1))
            case "more":
                write(folder, {"more.safetensors": weights_of(10)})
            case "less":
                (folder / "tokenizer.json").unlink()
            case "same size":
                stat = weights.stat()
                rot(weights)
                os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as if nothing had happened
        now, unknown = book.identity(folder)
        assert now != was
        assert unknown is None
        assert (book.learn(folder).digest == digest) == (change == "touch")

    def test_equal_content_has_one_name_wherever_it_lies(self, book, folder, tmp_path):
        copy = write(tmp_path / "copy", model())
        assert book.learn(copy).digest == book.learn(folder).digest
        assert book.identity(copy)[0] != book.identity(folder)[0]

    def test_what_is_known_is_not_read_again(self, book, folder):
        read: list[int] = []
        book.learn(folder, on_bytes=read.append)
        assert sum(read) == sum(path.stat().st_size for path in folder.iterdir())
        read.clear()
        (folder / "config.json").write_bytes(b"{}")
        book.learn(folder, on_bytes=read.append)
        assert read == [2]

    def test_a_broken_record_is_made_anew(self, book, folder, store):
        digest = book.learn(folder).digest
        store.paths.folder(folder).write_bytes(b'{"folder"')
        assert book.read(folder) is None
        assert book.learn(folder).digest == digest


class TestDamage:
    def said(self, act, folder):
        with pytest.raises(Damaged) as caught:
            act(folder)
        assert caught.value.cure == "put a whole copy in its place"
        return caught.value.message

    def test_a_checksum_file_says_otherwise(self, book, folder):
        (folder / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")
        expected = "the file model.safetensors is damaged: its SHA-256 is not the one in SHA256SUMS"
        assert self.said(book.learn, folder) == expected
        assert self.said(book.refuse_damaged, folder) == expected

    def test_a_checksum_file_that_agrees_is_remembered(self, book, folder):
        name = "model.safetensors"
        (folder / f"{name}.sha256").write_text(hashlib.sha256((folder / name).read_bytes()).hexdigest())
        assert book.learn(folder).files[name].against == "model.safetensors.sha256"
        assert book.learn(folder).files["config.json"].against == ""

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (weights_of(1000)[:-10], "is truncated: 10 of 1000 bytes of data are missing"),
            (weights_of(1000)[:20], "is truncated within its header"),
            (b"\0\0\0\0\1" + weights_of(1000)[5:], "its header claims"),
            (weights_of(1000).replace(b'"U8"', b'"Uh"'), "has the unknown type"),
            (weights_of(1000).replace(b"[0, 1000]", b"[8, 1008]"), "leaves a hole before it"),
        ],
    )
    def test_a_broken_structure_is_named_without_reading_the_data(self, book, folder, content, said):
        (folder / "model.safetensors").write_bytes(content)
        assert said in self.said(book.learn, folder)

    def test_the_disk_lost_a_bit(self, book, folder, unnoticed):
        book.learn(folder)
        rot(folder / "model.safetensors")
        book.learn(folder)  # nothing was written, as far as anybody can tell
        expected = "the file model.safetensors is damaged: its content changed although nobody wrote to it"
        assert self.said(book.verify, folder) == expected

    def test_each_of_several_is_named(self, book, folder, unnoticed):
        book.learn(folder)
        rot(folder / "model.safetensors")
        rot(folder / "config.json")
        said = self.said(book.verify, folder)
        assert "config.json" in said
        assert "model.safetensors" in said

    def test_a_file_that_the_disk_cannot_read(self, book, folder, monkeypatch):
        def fails(path, *args, **kwargs):
            if path.name == "model.safetensors":
                raise Damaged("the file model.safetensors cannot be read (Input/output error)")
            return hash_file(path, *args, **kwargs)

        monkeypatch.setattr("models.weights.folders.hash_file", fails)
        monkeypatch.setattr("models.weights.hashing.hash_file", fails)
        assert "model.safetensors cannot be read (Input/output error)" in self.said(book.learn, folder)

    def test_a_replaced_file_is_judged_anew(self, book, folder):
        (folder / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")
        self.said(book.learn, folder)
        (folder / "SHA256SUMS").unlink()
        self.said(book.refuse_damaged, folder)  # still the same file
        whole = weights_of(64 * 1024, fill=2)
        (folder / "new").write_bytes(whole)
        (folder / "new").rename(folder / "model.safetensors")
        book.refuse_damaged(folder)
        assert book.learn(folder).damage == ()

    def test_an_edited_local_file_is_no_damage(self, book, folder):
        book.learn(folder)
        (folder / "config.json").write_bytes(b'{"changed": 1}')
        assert book.verify(folder).damage == ()

    def test_a_file_of_a_local_folder_may_be_taken_away(self, book, folder):
        book.learn(folder)
        (folder / "tokenizer.json").unlink()
        book.verify_file(folder, "tokenizer.json", pace=Pace(), keep_cached=True)
        assert "tokenizer.json" not in book.read(folder).files

    def test_one_that_is_being_written_is_left_alone(self, folder):
        def write_meanwhile(count):
            (folder / "model.safetensors").write_bytes(weights_of(10))

        with pytest.raises(Busy, match=r"model\.safetensors is being written"):
            hash_file(folder / "model.safetensors", on_bytes=write_meanwhile)


class TestPace:
    def test_the_rate_is_kept(self, clock):
        pace = Pace(100.0, clock=clock, sleep=clock.sleep)
        for _ in range(11):
            pace.take(50)
        assert clock.now_s == pytest.approx(1_000_005.0)

    def test_time_that_was_not_used_is_not_saved_up(self, clock):
        pace = Pace(100.0, clock=clock, sleep=clock.sleep)
        pace.take(100)
        clock.now_s += 1000
        pace.take(100)
        pace.take(100)
        assert sum(clock.slept_s) == pytest.approx(1.0)

    def test_it_ends_when_it_is_told_to(self):
        with pytest.raises(Stopped):
            Pace(stop=lambda: True).take(1)
