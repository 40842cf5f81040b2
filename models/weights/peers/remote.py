"""A source as other nodes of the cluster have it: from several at once, from the next one when one goes away."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import quote

import msgspec

from models.weights.checksums import Expected
from models.weights.errors import SourceRefused, TransferFailed
from models.weights.peers import proof
from models.weights.peers.shares import NODE_HEADER, Reading, SharedFile, SharedFolder
from models.weights.records import Struct
from models.weights.remote import CHUNK_BYTES, Listing, RemoteFile
from models.weights.selection import MOST_FILES, check_name, refuse_pickles
from models.weights.urls import SourceUrl

CONNECT_S = 3.0
SILENCE_S = 10.0
READING_S = 0.2  # between looks whether a node has read its files
STRIKES = 3  # failures without a whole answer in between, and a node is asked no more
MOST_LOOKS = 10_000
MOST_LISTING_BYTES = 8 * 2**20


class Peer(Struct, frozen=True):
    """Where a share is served. ``version``: of the source there."""

    node: str
    host: str
    port: int
    share: str
    version: str = ""


class PeersGone(SourceRefused):
    """No node gives it any more; what has arrived is kept."""


class PeersRemote:
    """``peers``: the preferred first; the first that answers says what there is, others count while they say the same.

    ``me``: the name of this node, by which the others share their rate.
    """

    def __init__(
        self,
        url: SourceUrl,
        peers: Sequence[Peer],
        *,
        key: str,
        me: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url
        self._peers = list(peers)
        self._key = key
        self._me = me
        self._sleep = sleep
        self._lock = threading.Lock()
        self._listed: dict[str, bool] = {}  # node -> whether it has what the first one has
        self._wanted: SharedFolder | None = None
        self._busy: dict[str, int] = {peer.node: 0 for peer in peers}
        self._strikes: dict[str, int] = {peer.node: 0 for peer in peers}
        self._failures: dict[str, int] = {peer.node: 0 for peer in peers}  # in all; strikes are those in a row
        self._said: dict[str, str] = {}  # node -> why it is asked no more

    def listing(self) -> Listing:
        for peer in self._peers:
            try:
                found = self._list(peer)
            except (TransferFailed, SourceRefused) as problem:
                self._give_up(peer, problem.message)
                continue
            self._wanted = found
            self._listed[peer.node] = True
            return Listing(found.version, tuple(_wanted(file, peer) for file in found.files))
        raise self._gone()

    def read(self, file: RemoteFile, offset: int) -> tuple[int, Iterator[bytes]]:
        peer = self._choose()
        before = self._failures[peer.node]
        try:
            began, chunks = self._open(peer, file, offset)
        except (TransferFailed, SourceRefused) as problem:
            self._release(peer)
            self._strike(peer, problem, before)
            raise TransferFailed(problem.message, problem.cure) from problem
        return began, self._counted(peer, file, file.size_bytes - began, chunks, before)

    # -- whom to ask ----------------------------------------------------------------------------------------------

    def _choose(self) -> Peer:
        """Of those that have the same content the one that failed least, then the least busy. Raises PeersGone."""
        while True:
            with self._lock:
                left = [peer for peer in self._peers if peer.node not in self._said]
                if not left:
                    raise self._gone()
                peer = min(left, key=lambda each: (self._strikes[each.node], self._busy[each.node]))
                self._busy[peer.node] += 1
            if self._has_the_same(peer):
                return peer
            self._release(peer)

    def _has_the_same(self, peer: Peer) -> bool:
        if peer.node not in self._listed:
            try:
                found, wanted = self._list(peer), self._wanted
            except (TransferFailed, SourceRefused) as problem:
                self._give_up(peer, problem.message)
                return False
            self._listed[peer.node] = wanted is not None and found.files == wanted.files
            if not self._listed[peer.node]:
                self._give_up(peer, f"{peer.node} has another version")
        return self._listed[peer.node]

    def _counted(
        self, peer: Peer, file: RemoteFile, left_bytes: int, chunks: Iterator[bytes], before: int
    ) -> Iterator[bytes]:
        try:
            for chunk in chunks:
                left_bytes -= len(chunk)
                yield chunk
            if left_bytes > 0:
                raise TransferFailed(f"{peer.node} broke off within {file.name}", "try again: it goes on from there")
            self._strikes[peer.node] = 0
        except TransferFailed as problem:
            self._strike(peer, problem, before)
            raise
        finally:
            self._release(peer)

    def _release(self, peer: Peer) -> None:
        with self._lock:
            self._busy[peer.node] -= 1

    def _strike(self, peer: Peer, problem: TransferFailed | SourceRefused, before: int) -> None:
        """``before``: the node's failures when this was asked for. What one trouble breaks off at once counts once."""
        with self._lock:
            if before == self._failures[peer.node]:
                self._failures[peer.node] += 1
                self._strikes[peer.node] += 1
        if self._strikes[peer.node] >= STRIKES or isinstance(problem, SourceRefused):
            self._give_up(peer, problem.message)

    def _give_up(self, peer: Peer, why: str) -> None:
        with self._lock:
            self._said.setdefault(peer.node, why)

    def _gone(self) -> PeersGone:
        said = "; ".join(why for _, why in sorted(self._said.items()))
        return PeersGone(f"no node of the cluster gives it ({said or 'none has it'})", "look at those nodes")

    # -- what is said ---------------------------------------------------------------------------------------------

    def _list(self, peer: Peer) -> SharedFolder:
        """Waits while the node reads what it has never read. Raises TransferFailed, SourceRefused."""
        path = f"/shares/{peer.share}"
        for _ in range(MOST_LOOKS):
            header, nonce = proof.ask(self._key, path)
            with self._answer(peer, path, {proof.HEADER: header}) as answer:
                body = _read(answer, peer)
                status, signature = answer.status, answer.getheader(proof.HEADER)
            if status not in (200, 202):
                raise _refused(peer, status, body)
            if not proof.agrees(self._key, nonce, body, signature):
                raise SourceRefused(
                    f"{peer.node} does not show that it knows the cluster's secret", "give it the secret"
                )
            try:
                if status == 200:
                    return _checked(msgspec.json.decode(body, type=SharedFolder))
                msgspec.json.decode(body, type=Reading)
            except msgspec.DecodeError as problem:
                raise SourceRefused(f"{peer.node} answers in words that are not known here ({problem})") from None
            self._sleep(READING_S)
        raise TransferFailed(f"{peer.node} does not come to the end of reading its files", "see who writes to them")

    def _open(self, peer: Peer, file: RemoteFile, offset: int) -> tuple[int, Iterator[bytes]]:
        path = f"/shares/{peer.share}/files/{quote(file.name)}"
        header, _ = proof.ask(self._key, path)
        headers = {proof.HEADER: header, **({"range": f"bytes={offset}-"} if offset else {})}
        with contextlib.ExitStack() as stack:
            answer = stack.enter_context(self._answer(peer, path, headers))
            if answer.status not in (200, 206):
                raise _refused(peer, answer.status, _read(answer, peer))
            kept = stack.pop_all()
        return (offset if answer.status == 206 else 0), _chunks(peer, file, answer, kept)

    @contextlib.contextmanager
    def _answer(self, peer: Peer, path: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(peer.host, peer.port, timeout=CONNECT_S)
        try:
            try:
                connection.connect()
                connection.sock.settimeout(SILENCE_S)
                connection.request("GET", path, headers={NODE_HEADER: self._me, "connection": "close", **headers})
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as problem:
                raise TransferFailed(f"{peer.node} does not answer ({type(problem).__name__})", "try again") from None
            yield answer
        finally:
            connection.close()


def _wanted(file: SharedFile, peer: Peer) -> RemoteFile:
    return RemoteFile(file.name, file.size_bytes, file.sha256, Expected("sha256", file.sha256, f"node {peer.node}"))


def _chunks(
    peer: Peer, file: RemoteFile, answer: http.client.HTTPResponse, stack: contextlib.ExitStack
) -> Iterator[bytes]:
    with stack:
        try:
            while chunk := answer.read(CHUNK_BYTES):
                yield chunk
        except (OSError, http.client.HTTPException) as problem:
            what = f"{peer.node} broke off within {file.name} ({type(problem).__name__})"
            raise TransferFailed(what, "try again: it goes on from there") from None


def _read(answer: http.client.HTTPResponse, peer: Peer) -> bytes:
    try:
        body = answer.read(MOST_LISTING_BYTES + 1)
    except (OSError, http.client.HTTPException) as problem:
        raise TransferFailed(f"{peer.node} broke off ({type(problem).__name__})", "try again") from None
    if len(body) > MOST_LISTING_BYTES:
        raise SourceRefused(f"{peer.node} lists more than {MOST_LISTING_BYTES // 2**20} MiB of files")
    return body


def _checked(found: SharedFolder) -> SharedFolder:
    """Raises SourceRefused for what must not become paths here."""
    if len(found.files) > MOST_FILES:
        raise SourceRefused(f"{found.node} lists more than {MOST_FILES} files")
    refuse_pickles(check_name(file.name) for file in found.files)
    return found


def _refused(peer: Peer, status: int, body: bytes) -> SourceRefused:
    if status == 403:
        return SourceRefused(f"{peer.node} does not know this node's secret", "give both the secret of the cluster")
    try:
        said = str(msgspec.json.decode(body)["error"])[:300]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        said = f"HTTP {status}"
    return SourceRefused(f"{peer.node} does not give it: {said}")
