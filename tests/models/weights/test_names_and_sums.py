"""Which files are taken, by name; what checksum files say; checksums while bytes pass by."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.weights.checksums import Digester, Expected
from models.weights.errors import SourceRefused
from models.weights.selection import check_name, is_sums, is_wanted, model_files, refuse_pickles
from models.weights.sums import parse_sums, sums_beside
from models.weights.urls import FolderUrl, HubUrl, S3Url, parse_source
from tests.models.weights.conftest import model, write

SUM = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "config.json", "chat_template.jinja", "tokenizer.model", "vocab.txt", "unet/w.safetensors",
     "SHA256SUMS", "model.safetensors.sha256"],
)  # fmt: skip
def test_what_makes_a_model_is_wanted(name):
    assert is_wanted(name)


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "model.pt", "w.pth", "x.ckpt", "x.pkl", "modeling.py", "tokenizer.pickle", "tf_model.h5",
     "original/w.safetensors", "../x.json", "a/b/c/d/e.json", ".git/config.json",
     "a/.hidden/b.json", "README.md", "tokenizer.bin"],
)  # fmt: skip
def test_what_can_run_code_or_is_of_no_use_is_not(name):
    assert not is_wanted(name)


@pytest.mark.parametrize("name", ["", "../x.json", "a/../b.json", "/etc/x.json", "a//b.json", "a\\b.json", "a\0.json",
                                  "a/b/c/d/e.json", "./x.json", "x" * 600 + ".json", ".x.json"])  # fmt: skip
def test_names_that_would_leave_the_folder_are_refused(name):
    with pytest.raises(SourceRefused, match="no sound name"):
        check_name(name)


@given(st.text())
def test_whatever_passes_stays_below_the_folder(name):
    try:
        check_name(name)
    except SourceRefused:
        return
    base = Path("/store/partial/x")
    assert (base / name).resolve().is_relative_to(base)


def test_only_pickles_are_refused_by_name():
    with pytest.raises(SourceRefused, match=r"only pickled weights \(a\.bin and 1 more\), which are refused"):
        refuse_pickles(["config.json", "a.bin", "b.pt"])
    with pytest.raises(SourceRefused, match=r"no \*\.safetensors weights"):
        refuse_pickles(["config.json"])
    refuse_pickles(["a.bin", "a.safetensors"])


def test_a_folder_without_end_is_not_walked_to_it(tmp_path, monkeypatch):
    monkeypatch.setattr("models.weights.selection.MOST_FILES", 3)
    write(tmp_path, {f"{number}.json": b"{}" for number in range(5)})
    with pytest.raises(SourceRefused, match="more than 3 files"):
        model_files(tmp_path)


def test_the_files_of_a_folder(tmp_path):
    write(
        tmp_path, {**model(), "sub/w.safetensors": b"", ".cache/x.json": b"", "SHA256SUMS": b"", "a/b/c/d/e.json": b""}
    )
    assert sorted(model_files(tmp_path)) == ["config.json", "model.safetensors", "sub/w.safetensors", "tokenizer.json"]


class TestSums:
    @pytest.mark.parametrize(
        ("line", "said_by", "name"),
        [
            (f"{SUM}  model.safetensors", "SHA256SUMS", "model.safetensors"),
            (f"{SUM.upper()} *./model.safetensors", "SHA256SUMS", "model.safetensors"),
            (f"SHA256 (model.safetensors) = {SUM}", "SHA256SUMS", "model.safetensors"),
            (f"{SUM}", "model.safetensors.sha256", "model.safetensors"),
            (f"{SUM}  model.safetensors", "model.safetensors.sha256", "model.safetensors"),
            (f"{SUM}  sub/w.safetensors", "SHA256SUMS", "sub/w.safetensors"),
        ],
    )
    def test_the_ways_they_are_written(self, line, said_by, name):
        assert parse_sums(f"# made by hand\n\n{line}\n", said_by) == {name: Expected("sha256", SUM, said_by)}

    @pytest.mark.parametrize("text", ["", "hello", SUM, f"{SUM[:-1]}  x", "\0\xff"])
    def test_what_says_nothing(self, text):
        assert parse_sums(text, "SHA256SUMS") == {}

    def test_those_beside_the_weights_are_found(self, tmp_path):
        write(tmp_path, {"SHA256SUMS": f"{SUM}  a.json".encode(), "b.json.sha256": SUM.encode(), "c.txt": SUM.encode()})
        assert {name: each.said_by for name, each in sums_beside(tmp_path).items()} == {
            "a.json": "SHA256SUMS",
            "b.json": "b.json.sha256",
        }
        assert is_sums("sub/SHA256SUMS")


class TestChecksums:
    DATA = bytes(range(256)) * 100

    def digest(self, expected: Expected | None, chunk: int = 1000) -> Digester:
        digester = Digester(len(self.DATA), expected)
        for place in range(0, len(self.DATA), chunk):
            digester.update(self.DATA[place : place + chunk])
        return digester

    @pytest.mark.parametrize(
        ("algorithm", "value"),
        [
            ("sha256", hashlib.sha256(DATA).hexdigest()),
            ("git-sha1", hashlib.sha1(b"blob 25600\0" + DATA).hexdigest()),
            ("md5", hashlib.md5(DATA).hexdigest()),
            ("crc32", "Ew9NOw=="),
        ],
    )
    def test_each_agrees_with_its_own(self, algorithm, value):
        assert self.digest(Expected(algorithm, value, "x")).agrees()
        assert not self.digest(Expected(algorithm, value[:-1] + "!", "x")).agrees()
        assert self.digest(None).agrees()

    @pytest.mark.parametrize("chunk", [1, 7, 8192, 10_000, 25_600])
    def test_the_tag_of_an_upload_in_parts(self, chunk):
        parts = [self.DATA[place : place + 8192] for place in range(0, len(self.DATA), 8192)]
        whole = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
        expected = Expected("md5-parts", f"{whole}-{len(parts)}", "S3", part_bytes=8192)
        assert self.digest(expected, chunk).agrees()
        assert self.digest(expected).sha256 == hashlib.sha256(self.DATA).hexdigest()


class TestSources:
    def test_what_cards_may_name(self, tmp_path):
        assert parse_source("hf://org/repo@refs/pr/7", tmp_path) == HubUrl("org/repo", "refs/pr/7")
        assert parse_source("s3://bucket/a/b//", tmp_path) == S3Url("bucket", "a/b")
        assert str(parse_source("s3://bucket/a/", tmp_path)) == "s3://bucket/a"
        assert parse_source("m", tmp_path) == FolderUrl(tmp_path / "m")

    def test_nobodys_home(self, tmp_path):
        with pytest.raises(SourceRefused, match="nobody's home"):
            parse_source("~nobody-of-this-name/m", tmp_path)
