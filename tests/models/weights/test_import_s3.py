"""Imports from S3 by the real client, against a server that speaks it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from models.weights.errors import Damaged, SourceRefused, TransferFailed, WeightsError
from models.weights.store import WeightStore
from models.weights.urls import SourceUrl, parse_source
from tests.models.weights.conftest import model

URL = parse_source("s3://models/tiny/", Path())
NAME = "model.safetensors"
KEY = f"tiny/{NAME}"


def refusal(store: WeightStore, kind: type[WeightsError] = SourceRefused, url: SourceUrl = URL) -> str:
    with pytest.raises(kind) as caught:
        store.fetch(url)
    return str(caught.value)


@pytest.mark.parametrize(
    ("sums", "against"), [("md5", {"S3": 3}), ("parts", {"S3": 3}), ("sha256", {"S3": 3}), ("none", {"": 3})]
)
def test_each_kind_of_checksum(store, s3, sums, against):
    s3.sums = sums
    record = store.fetch(URL)
    assert record.against == against
    assert (Path(record.folder) / NAME).read_bytes() == s3.files[KEY]
    assert store.find("s3://models/tiny") == Path(record.folder)
    assert set(s3.signed) == {True}


def test_only_what_is_below_the_prefix_and_wanted(store, s3):
    s3.files |= {
        "tiny2/config.json": b"{}",
        "tiny/": b"",
        "tiny/train.py": b"",
        "tiny/x.bin": b"",
        "tiny/a/b.json": b"{}",
    }
    folder = Path(store.fetch(URL).folder)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert names == ["a/b.json", "config.json", NAME, "tokenizer.json"]


def test_a_dropped_line_goes_on_where_it_broke(store, s3):
    s3.cuts = [200_000, 100_000]
    record = store.fetch(URL)
    assert (Path(record.folder) / NAME).read_bytes() == s3.files[KEY]
    assert s3.sent[KEY] == len(s3.files[KEY]), "not a byte came twice"


def test_a_server_without_ranges_begins_anew(store, s3):
    s3.cuts, s3.ranges = [200_000], False
    record = store.fetch(URL)
    assert (Path(record.folder) / NAME).read_bytes() == s3.files[KEY]


def test_a_later_import_goes_on(store, s3):
    s3.cuts = [200_000, *[0] * 10]
    assert "the download failed within model.safetensors" in refusal(store, TransferFailed)
    s3.cuts, had = [], s3.sent[KEY]
    store.fetch(URL)
    assert s3.sent[KEY] == len(s3.files[KEY])
    assert had > 150_000


def test_an_object_that_changes_in_the_middle_is_never_mixed(store, s3):
    s3.cuts = [200_000, *[0] * 10]
    refusal(store, TransferFailed)
    s3.files[KEY] = model(512 * 1024, fill=9)[NAME]
    s3.cuts = []
    record = store.fetch(URL)
    assert (Path(record.folder) / NAME).read_bytes() == s3.files[KEY]


@pytest.mark.parametrize("etag", ["0" * 32, "0" * 32 + "-65"])
def test_wrong_bytes_are_refused(store, s3, etag):
    s3.etags[KEY] = etag
    s3.sums = "parts" if "-" in etag else "md5"
    assert f"{NAME} arrived damaged: its checksum is not the one that S3 names" in refusal(store, Damaged)


def test_checksum_files_below_the_prefix_are_honoured(store, s3):
    s3.sums = "none"
    sums = "".join(f"{hashlib.sha256(s3.files[f'tiny/{name}']).hexdigest()}  {name}\n" for name in model())
    s3.files["tiny/SHA256SUMS"] = sums.encode()
    record = store.fetch(URL)
    assert record.against == {"SHA256SUMS": 3}
    assert store.verify(Path(record.folder)).damage == ()


def test_nothing_there(store, s3):
    assert "there is nothing below this prefix" in refusal(store, url=parse_source("s3://models/none", Path()))
    assert refusal(store, url=parse_source("s3://other/tiny", Path())) == "there is no bucket 'other'"


def test_only_pickles(store, s3):
    s3.files[f"tiny/{'pytorch_model.bin'}"] = s3.files.pop(KEY)
    assert "only pickled weights (pytorch_model.bin)" in refusal(store)


def test_access_refused(store, s3):
    s3.denied = True
    assert "access to it is refused (AccessDenied); set AWS_ACCESS_KEY_ID" in refusal(store)


def test_without_credentials_it_is_read_as_the_public_may(store, s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store.fetch(URL)
    assert set(s3.signed) == {False}


def test_no_network(store, s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "check AWS_ENDPOINT_URL and the network" in refusal(store, TransferFailed)
