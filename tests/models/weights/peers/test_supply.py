"""A node without the weights gets them from those that have them; whatever goes wrong on the way, none are wrong."""

from __future__ import annotations

import http.client
import shutil
import socket
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from models.weights.errors import Damaged, NoRoom, SourceRefused, TransferFailed
from models.weights.peers import proof, server
from models.weights.peers.likeness import Likenesses
from models.weights.peers.remote import STRIKES, Peer, PeersGone, PeersRemote
from models.weights.peers.serve import _Key
from models.weights.peers.shares import SharedFolder
from models.weights.peers.supply import supply
from models.weights.records import Settings, SourceRecord
from models.weights.store import WeightStore
from models.weights.urls import FolderUrl, HubUrl, SourceUrl
from tests.models.weights.conftest import MiB, model, write
from tests.models.weights.hub_server import Hub
from tests.models.weights.peers.neighbours import KEY, Neighbour, gone

BIG = model(5 * MiB)


def bring(
    store: WeightStore, url: SourceUrl, peers: Sequence[Peer], *, download: bool = False, key: str = KEY
) -> SourceRecord:
    return supply(store, url, peers, key=key, me="mine", download=download, tell=lambda progress: None)


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """A folder that is on the first node only."""
    return write(
        tmp_path / "far", {**BIG, "notes.md": b"not the model's", "run.py": b"import os", "sub/a b.json": b"{}"}
    )


def test_a_folder_that_only_another_node_has_is_here_afterwards_and_verified(
    first: Neighbour, mine: WeightStore, far: Path
) -> None:
    record = bring(mine, FolderUrl(far), [first.offer(far, str(far))])
    found = Path(record.folder)
    assert found.is_relative_to(mine.paths.downloads)
    assert mine.find(str(far)) == found, "by the name that the catalog has for it"
    assert {str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()} == {
        "config.json", "model.safetensors", "tokenizer.json", "sub/a b.json",
    }  # fmt: skip
    assert (found / "model.safetensors").read_bytes() == BIG["model.safetensors"]
    assert record.against == {"node first": 4}
    assert Likenesses().of(found) == Likenesses().of(far)
    assert mine.verify(found).digest == first.store.verify(far).digest == record.version


def test_what_is_here_already_is_not_fetched_again(first: Neighbour, mine: WeightStore, far: Path) -> None:
    bring(mine, FolderUrl(far), [first.offer(far, str(far))])
    had = first.given_bytes
    bring(mine, FolderUrl(far), [first.offer(far, str(far))])
    assert first.given_bytes == had


def test_what_has_changed_there_comes_anew_and_the_old_is_of_no_use_any_more(
    first: Neighbour, mine: WeightStore, far: Path
) -> None:
    before = bring(mine, FolderUrl(far), [first.offer(far, str(far))])
    write(far, model(5 * MiB, fill=2))
    after = bring(mine, FolderUrl(far), [first.offer(far, str(far))])
    assert (Path(after.folder) / "model.safetensors").read_bytes() == model(5 * MiB, fill=2)["model.safetensors"]
    assert after.folder != before.folder
    assert [item.path for item in mine.prune().victims] == [Path(before.folder)]


def test_two_nodes_share_the_work(
    first: Neighbour, second: Neighbour, mine: WeightStore, far: Path, tmp_path: Path
) -> None:
    shards = {f"model-{i}.safetensors": model(3 * MiB, fill=i)["model.safetensors"] for i in range(1, 7)}
    files = {**{name: data for name, data in BIG.items() if not name.endswith(".safetensors")}, **shards}
    one, two = write(tmp_path / "one", files), write(tmp_path / "two", files)
    record = bring(mine, FolderUrl(one), [first.offer(one, "x"), second.offer(two, "x")])
    assert record.bytes == sum(map(len, files.values()))
    assert first.given_bytes + second.given_bytes >= record.bytes
    assert first.given_bytes > 0
    assert second.given_bytes > 0


def test_a_node_that_dies_in_the_middle_is_followed_by_the_next_which_goes_on_there(
    first: Neighbour, second: Neighbour, mine: WeightStore, far: Path
) -> None:
    first.turns.break_at = 3 * MiB
    record = bring(mine, FolderUrl(far), [first.offer(far, "x"), second.offer(far, "x")])
    assert (Path(record.folder) / "model.safetensors").read_bytes() == BIG["model.safetensors"]
    assert second.given_bytes > 0
    assert first.given_bytes + second.given_bytes < 7 * MiB, "what the first one gave is not fetched again"


def test_a_node_that_breaks_off_now_and_then_is_asked_again(first: Neighbour, mine: WeightStore, far: Path) -> None:
    first.turns.break_at = 2 * MiB

    def mend(seconds: float) -> None:
        first.turns.break_at = None

    store = WeightStore(mine.paths.root, env={}, sleep=mend)
    bring(store, FolderUrl(far), [first.offer(far, "x")])
    assert first.given_bytes < 8 * MiB


def test_what_one_trouble_breaks_off_at_once_counts_once(first: Neighbour, far: Path) -> None:
    remote = PeersRemote(FolderUrl(far), [first.offer(far, "x")], key=KEY, me="mine")
    (big,) = [file for file in remote.listing().files if file.name == "model.safetensors"]
    first.turns.break_at = 0
    for _ in range(STRIKES):
        for _, chunks in [remote.read(big, 0) for _ in range(2 * STRIKES)]:
            with pytest.raises(TransferFailed, match="broke off"):
                list(chunks)
    with pytest.raises(PeersGone, match="first broke off"):
        remote.read(big, 0)


def test_a_node_that_is_gone_for_good_is_named_and_what_came_is_kept(
    first: Neighbour, mine: WeightStore, far: Path
) -> None:
    peer = first.offer(far, "x")
    first.turns.break_at = 3 * MiB
    with pytest.raises(PeersGone, match=r"no node of the cluster gives it \(first broke off within"):
        bring(mine, FolderUrl(far), [peer])
    assert mine.find(str(far)) is None
    first.turns.break_at = None
    had = first.given_bytes
    bring(mine, FolderUrl(far), [peer])
    assert first.given_bytes - had < 4 * MiB


def test_one_that_does_not_answer_at_all_costs_only_the_attempt(
    first: Neighbour, mine: WeightStore, far: Path, closed_port: int
) -> None:
    peer = first.offer(far, "x")
    bring(mine, FolderUrl(far), [gone(peer, closed_port), peer])
    assert mine.find(str(far)) is not None


def test_one_with_another_version_is_left_out(
    first: Neighbour, second: Neighbour, mine: WeightStore, far: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "other", model(5 * MiB, fill=3))
    first.turns.break_at = 3 * MiB
    with pytest.raises(PeersGone, match="second has another version"):
        bring(mine, FolderUrl(far), [first.offer(far, "x"), second.offer(other, "x")])


def test_damage_on_one_nodes_disk_is_noticed_and_the_others_are_asked(
    first: Neighbour, second: Neighbour, mine: WeightStore, far: Path, tmp_path: Path
) -> None:
    """Its file rots after its sum was computed, and nobody wrote to it: sizes and times say nothing."""
    bad = tmp_path / "bad"
    shutil.copytree(far, bad)
    first.store.learn(bad)
    rot(bad / "model.safetensors", first.store)
    record = bring(mine, FolderUrl(far), [first.offer(bad, "x"), second.offer(far, "x")])
    assert (Path(record.folder) / "model.safetensors").read_bytes() == BIG["model.safetensors"]
    with pytest.raises(Damaged, match=r"model.safetensors arrived damaged: .* that node first names"):
        bring(WeightStore(tmp_path / "third", env={}), FolderUrl(far), [first.offer(bad, "x")])


def rot(path: Path, store: WeightStore) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    record = store.book.read(path.parent)
    assert record is not None
    from models.weights.stats import FileStat

    known = msgspec.structs.replace(record.files[path.name], stat=FileStat.of(path))
    store.book.write(msgspec.structs.replace(record, files={**record.files, path.name: known}))


def test_weights_that_are_known_to_be_damaged_are_not_given(first: Neighbour, mine: WeightStore, far: Path) -> None:
    first.store.learn(far)
    data = bytearray((far / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (far / "model.safetensors").write_bytes(data)
    (far / "SHA256SUMS").write_text(f"{'0' * 64}  model.safetensors\n")
    with pytest.raises(SourceRefused, match=r"does not give it: the file model.safetensors is damaged"):
        bring(mine, FolderUrl(far), [first.offer(far, "x")])


def test_after_all_peers_the_source_itself_goes_on_where_they_stopped(
    first: Neighbour, mine: WeightStore, hub: Hub
) -> None:
    """What came from a peer under the hub's own commit counts for the hub, too."""
    files = {**hub.files, "model.safetensors": model(5 * MiB)["model.safetensors"]}
    hub.files.update(files)
    at_home = WeightStore(mine.paths.root.parent / "first", env={"HF_ENDPOINT": hub.url})
    url = HubUrl("org/tiny", "main")
    there = at_home.fetch(url)
    peer = first.offer(Path(there.folder), str(url), there.version)
    first.turns.break_at = 3 * MiB
    hub.sent.clear()
    store = WeightStore(mine.paths.root, env={"HF_ENDPOINT": hub.url}, sleep=lambda seconds: None)
    record = bring(store, url, [peer], download=True)
    assert record.version == there.version
    assert (Path(record.folder) / "model.safetensors").read_bytes() == files["model.safetensors"]
    # A connection that breaks may take along what had arrived and was not read yet.
    assert 0 < hub.sent["model.safetensors"] < len(files["model.safetensors"])


def test_where_downloads_are_off_nobody_goes_to_the_hub(mine: WeightStore, hub: Hub, closed_port: int) -> None:
    store = WeightStore(mine.paths.root, env={"HF_ENDPOINT": hub.url}, sleep=lambda seconds: None)
    with pytest.raises(SourceRefused, match="no node of the cluster has it"):
        bring(store, HubUrl("org/tiny", "main"), [])
    assert hub.asked == 0


def test_a_full_store_is_not_tried_again_elsewhere(
    first: Neighbour, second: Neighbour, mine: WeightStore, far: Path
) -> None:
    mine.configure(Settings(quota_bytes=MiB))
    with pytest.raises(NoRoom):
        bring(mine, FolderUrl(far), [first.offer(far, "x"), second.offer(far, "x")])
    assert second.given_bytes == 0


def test_many_that_want_the_same_fetch_it_once(first: Neighbour, mine: WeightStore, far: Path) -> None:
    peer = first.offer(far, "x")
    done: list[SourceRecord] = []
    threads = [threading.Thread(target=lambda: done.append(bring(mine, FolderUrl(far), [peer]))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({record.folder for record in done}) == 1
    assert first.given_bytes < 6 * MiB


# -- who may ask, and for what ----------------------------------------------------------------------------------------


def get(node: Neighbour, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", node.server.server_address[1], timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_without_the_clusters_secret_nothing_is_said(first: Neighbour, mine: WeightStore, far: Path) -> None:
    peer = first.offer(far, "x")
    for headers in ({}, {proof.HEADER: "x"}, {proof.HEADER: f"{'0' * 32}:{'0' * 64}"}, {"x-roundhouse-key": KEY}):
        assert get(first, f"/shares/{peer.share}", headers)[0] == 403
    with pytest.raises(SourceRefused, match="first does not know this node's secret"):
        bring(mine, FolderUrl(far), [peer], key="other")


def test_a_proof_is_good_for_one_path_only(first: Neighbour, far: Path) -> None:
    peer = first.offer(far, "x")
    header, _ = proof.ask(KEY, f"/shares/{peer.share}")
    assert get(first, f"/shares/{peer.share}", {proof.HEADER: header})[0] in (200, 202)
    assert get(first, f"/shares/{peer.share}/files/config.json", {proof.HEADER: header})[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/shares/" + "0" * 24,
        "/shares/{share}/files/run.py",
        "/shares/{share}/files/..%2F..%2Fetc%2Fpasswd",
        "/shares/{share}/files/../secret",
        "/shares/{share}/files/notes.md",
        "/shares/{share}/files//etc/passwd",
    ],
)
def test_nothing_but_what_makes_the_model_is_given(first: Neighbour, mine: WeightStore, far: Path, path: str) -> None:
    peer = first.offer(far, "x")
    bring(mine, FolderUrl(far), [peer])
    path = path.format(share=peer.share)
    header, _ = proof.ask(KEY, path)
    assert get(first, path, {proof.HEADER: header})[0] == 404


def test_a_file_that_has_changed_since_it_was_listed_is_not_given(
    first: Neighbour, mine: WeightStore, far: Path
) -> None:
    peer = first.offer(far, "x")
    bring(mine, FolderUrl(far), [peer])
    (far / "config.json").write_text("{}")
    path = f"/shares/{peer.share}/files/config.json"
    assert get(first, path, {proof.HEADER: proof.ask(KEY, path)[0]})[0] == 404


def test_whoever_took_a_nodes_address_cannot_foist_weights_on_anybody(
    first: Neighbour, mine: WeightStore, far: Path
) -> None:
    """It answers as the node would, but cannot sign what it says."""
    peer = first.offer(far, "x")
    first.store.learn(far)
    agreed = proof.signed
    try:
        proof.signed = lambda key, nonce, body: agreed("another key", nonce, body)
        header, nonce = proof.ask(KEY, f"/shares/{peer.share}")
        status, body = get(first, f"/shares/{peer.share}", {proof.HEADER: header})
        forged = proof.signed(KEY, nonce, body)
    finally:
        proof.signed = agreed
    assert status == 200
    assert msgspec.json.decode(body, type=SharedFolder).node == "first"
    assert not proof.agrees(KEY, nonce, body, forged)
    assert not proof.agrees(KEY, nonce, body, None)
    assert proof.agrees(KEY, nonce, body, proof.signed(KEY, nonce, body))
    assert not proof.agrees(KEY, nonce + "0", body, proof.signed(KEY, nonce, body)), "an old answer is no answer"


def test_a_node_without_a_secret_lets_nobody_in(first: Neighbour, mine: WeightStore, far: Path) -> None:
    peer = first.offer(far, "x")
    first.key = ""
    with pytest.raises((SourceRefused, TransferFailed)):
        bring(mine, FolderUrl(far), [peer], key="")


def test_what_answers_at_a_nodes_address_in_no_words_at_all_is_left_for_the_next_node(
    first: Neighbour, mine: WeightStore, far: Path
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(500)
            self.end_headers()
            self.wfile.write(b'{"error": "\xff"}')

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        stranger = Peer(node="stranger", host="127.0.0.1", port=other.server_port, share="0" * 24)
        record = bring(mine, FolderUrl(far), [stranger, first.offer(far, "x")])
        other.shutdown()
    assert Path(record.folder).is_dir()


def test_a_secret_that_was_taken_away_and_put_back_opens_the_door_again(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s" * 64)
    key = _Key(file)
    known = key()
    aside = file.rename(tmp_path / "aside")
    assert known
    assert key() == ""
    aside.rename(file)  # with the time it had
    assert key() == known


def test_whoever_shows_no_proof_in_time_makes_room_for_others(
    first: Neighbour, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then is no silence; so nobody without the secret may keep a connection by it."""
    monkeypatch.setattr(server, "PROOF_S", 0.2)
    with socket.create_connection(("127.0.0.1", first.server.server_address[1]), 5) as talk:
        talk.sendall(b"GET / HTTP/1.1\r\nx: ")
        talk.settimeout(5)
        assert talk.recv(1) == b""
    first.store.learn(far)
    path = f"/shares/{first.offer(far, 'x').share}"
    connection = http.client.HTTPConnection("127.0.0.1", first.server.server_address[1], timeout=5)
    for _ in range(2):  # one that has shown it may pause
        connection.request("GET", path, headers={proof.HEADER: proof.ask(KEY, path)[0]})
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
        time.sleep(1.0)
    connection.close()
