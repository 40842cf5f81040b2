"""Imports from the hub by its real client, against a server that drops the line, lies, or holds pickles."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from models.weights.errors import Damaged, NotHere, SourceRefused, TransferFailed, WeightsError
from models.weights.records import Progress
from models.weights.store import WeightStore
from models.weights.urls import SourceUrl, parse_source
from tests.models.weights.conftest import model, weights_of
from tests.models.weights.hub_server import COMMIT
from tests.models.weights.serving import BLOCK

URL = parse_source("hf://org/tiny@main", Path())
NAME = "model.safetensors"


@pytest.fixture
def store(make_store, hub):
    return make_store({"HF_ENDPOINT": hub.url})


def refusal(store: WeightStore, kind: type[WeightsError] = SourceRefused, url: SourceUrl = URL) -> str:
    with pytest.raises(kind) as caught:
        store.fetch(url)
    return str(caught.value)


def test_what_a_model_needs_is_here_and_verified(store, hub):
    told: list[Progress] = []
    record = store.fetch(URL, tell=told.append)
    folder = Path(record.folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == hub.files
    assert store.find(str(URL)) == folder
    assert (record.version, record.against) == (COMMIT, {"the hub": 3})
    assert [each.phase for each in told][0 :: len(told) - 1] == ["listing", "done"]
    assert max(each.bytes_done for each in told) == record.bytes == sum(map(len, hub.files.values()))
    assert store.book.identity(folder)[1] is not None, "its content is known without reading it again"
    assert store.progress() == []


def test_nothing_that_can_run_code_is_fetched(store, hub):
    extra = {"pytorch_model.bin": b"p", "modeling.py": b"print()", "original/w.safetensors": b"", "README.md": b""}
    hub.files |= {**extra, "unet/w.safetensors": weights_of(10)}
    store.fetch(URL)
    assert hub.fetched == ["config.json", NAME, "tokenizer.json", "unet/w.safetensors"]


def test_what_is_here_is_not_fetched_again(store, hub):
    first = store.fetch(URL)
    sent = hub.sent_bytes
    assert store.fetch(URL) == first
    assert hub.sent_bytes == sent


@pytest.mark.parametrize("cuts", [[100_000], [300_000, 150_000, 0, 20_000]])
def test_a_dropped_line_goes_on_where_it_broke(store, hub, cuts):
    hub.cuts = list(cuts)
    record = store.fetch(URL)
    assert (Path(record.folder) / NAME).read_bytes() == hub.files[NAME]
    lost = len(cuts) * 128 * 1024  # what the client had not passed on yet
    assert hub.sent[NAME] <= len(hub.files[NAME]) + lost
    assert hub.sent[NAME] < len(hub.files[NAME]) * (1 + len(cuts))


def test_a_later_import_goes_on_where_the_first_gave_up(store, hub):
    hub.cuts = [300_000, *[0] * 10]
    assert "the download failed (RemoteProtocolError); check the network and try again" in refusal(
        store, TransferFailed
    )
    [item] = store.items()
    assert (item.kind, item.source, item.held) == ("partial", str(URL), "")
    [progress] = store.progress()
    assert progress.phase == "failed"
    had = item.bytes
    assert had >= 300_000 - 128 * 1024 - BLOCK
    hub.cuts, hub.sent = [], {}
    plan = store.plan(URL)
    assert plan.bytes - plan.present_bytes < len(hub.files[NAME]) - 100_000
    told: list[Progress] = []
    store.fetch(URL, tell=told.append)
    assert hub.sent_bytes == plan.bytes - plan.present_bytes
    assert max(each.resumed_bytes for each in told) == plan.present_bytes
    assert [each.kind for each in store.items()] == ["download"]


def test_what_was_pruned_meanwhile_begins_anew(store, hub):
    hub.cuts = [300_000, *[0] * 10]
    refusal(store, TransferFailed)
    assert [item.kind for item in store.prune(0).victims] == ["partial"]
    assert store.progress() == []
    hub.cuts = []
    assert (Path(store.fetch(URL).folder) / NAME).read_bytes() == hub.files[NAME]


def test_a_repository_that_changed_meanwhile_begins_anew(store, hub):
    hub.cuts = [300_000, *[0] * 10]
    refusal(store, TransferFailed)
    hub.files |= model(400_000, fill=9)
    hub.commit, hub.cuts = "f" * 40, []
    record = store.fetch(URL)
    assert record.version == "f" * 40
    assert (Path(record.folder) / NAME).read_bytes() == hub.files[NAME]
    assert [item.kind for item in store.items()] == ["download"]


def test_a_branch_that_moved_is_fetched_on_demand_and_the_old_version_is_pruned(store, hub):
    old = Path(store.fetch(URL).folder)
    hub.files |= model(1000, fill=9)
    hub.commit = "f" * 40
    new = Path(store.fetch(URL).folder)
    assert new != old
    assert store.find(str(URL)) == new
    assert [item.path for item in store.prune().victims] == [old]


def test_wrong_bytes_are_refused(store, hub):
    hub.sums[NAME] = hashlib.sha256(b"something else").hexdigest()
    said = refusal(store, Damaged)
    assert said.startswith(f"{NAME} arrived damaged: its checksum is not the one that the hub names; try again")
    assert store.find(str(URL)) is None


def test_wrong_bytes_of_a_small_file_are_refused_too(store, hub):
    hub.sums["config.json"] = "0" * 40
    assert "config.json arrived damaged" in refusal(store, Damaged)


def test_a_source_that_is_itself_broken_never_gets_a_place(store, hub):
    hub.files[NAME] = hub.files[NAME][:-5]
    assert "the source itself is damaged: the weights file model.safetensors is truncated" in refusal(store, Damaged)
    assert store.find(str(URL)) is None


def test_checksum_files_of_the_repository_are_honoured(store, hub):
    hub.files["SHA256SUMS"] = f"{'0' * 64}  config.json\n".encode()
    assert "its checksum is not the one that SHA256SUMS names" in refusal(store, Damaged)


def test_a_damaged_download_is_mended_by_fetching_what_is_damaged(store, hub):
    hub.files["other.safetensors"] = weights_of(200_000, fill=5)
    folder = Path(store.fetch(URL).folder)
    content = bytearray((folder / NAME).read_bytes())
    content[-1] ^= 1
    (folder / NAME).write_bytes(content)
    with pytest.raises(Damaged, match="its SHA-256 is not the one that the hub named"):
        store.verify(folder)
    hub.sent.clear()
    again = Path(store.fetch(URL).folder)
    assert hub.fetched == [NAME]
    assert store.verify(again).damage == ()
    store.refuse_damaged(again)


def test_a_file_that_went_missing_is_damage_too(store):
    folder = Path(store.fetch(URL).folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(Damaged, match=r"the file tokenizer\.json is missing"):
        store.verify(folder)


def test_only_pickles(store, hub):
    del hub.files[NAME]
    hub.files["pytorch_model.bin"] = b"p"
    assert "it has only pickled weights (pytorch_model.bin), which are refused" in refusal(store)
    assert hub.sent == {}


def test_names_that_lead_out_of_the_folder(store, hub):
    hub.files |= {"../evil.json": b"{}", "a/b/c/d/deep.json": b"{}"}
    store.fetch(URL)
    assert hub.fetched == ["config.json", NAME, "tokenizer.json"]


@pytest.mark.parametrize("name", ["a\\evil.json", "/etc/evil.json", "a//evil.json"])
def test_names_that_are_no_names(store, hub, name):
    hub.files[name] = b"{}"
    assert "which is no sound name" in refusal(store)
    assert hub.sent == {}


def test_who_may_not(store, hub):
    hub.gated = True
    assert refusal(store) == "access to it must be asked for on the hub; ask for it, then set HF_TOKEN"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("hf://org/other@main", "the hub has no such repository, or HF_TOKEN may not see it"),
        ("hf://org/tiny@v9", "the repository has no revision 'v9'"),
    ],
)
def test_what_does_not_exist(store, url, said):
    assert refusal(store, url=parse_source(url, Path())) == said


def test_no_network(make_store, hub):
    store = make_store({"HF_ENDPOINT": "http://127.0.0.1:1"})
    assert "check the network and try again" in refusal(store, TransferFailed)


def test_being_offline_is_respected(make_store, hub):
    store = make_store({"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "1"})
    assert refusal(store, NotHere) == "downloads are off (HF_HUB_OFFLINE); unset HF_HUB_OFFLINE for this command"
    assert hub.asked == 0


def test_a_key_goes_only_where_it_belongs(make_store, hub, monkeypatch):
    """It is in no record and in no message."""
    store = make_store({"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret"})
    store.fetch(URL)
    kept = "".join(path.read_text(errors="replace") for path in store.paths.root.rglob("*.json"))
    assert "hf_secret" not in kept
    assert json.loads((store.paths.source(str(URL))).read_text())["url"] == str(URL)
