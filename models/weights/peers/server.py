"""Serves a node's shares to the other nodes of its cluster over HTTP/1.1.

``GET /shares/<id>``: what is in it, as JSON: 200 with ``SharedFolder``, 202 with ``Reading`` while its sums are being
computed. ``GET /shares/<id>/files/<name>``: a file, or its end (``Range: bytes=N-``). Both want proof that the asker
knows the cluster's key (``proof``); the first is signed in turn, and names the sums of all that the second gives.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

import msgspec

from models.weights.errors import Damaged, WeightsError
from models.weights.peers import proof
from models.weights.peers.shares import NODE_HEADER, Reading, Share, Shares, shared_file, shared_folder
from models.weights.peers.turns import Turns
from models.weights.records import FolderRecord
from models.weights.store import WeightStore

SILENCE_S = 15.0  # of an asker, in the middle of anything
PROOF_S = 20.0  # for the first request of a connection, however much is sent meanwhile
PIECE_BYTES = 2**20
MOST_CONNECTIONS = 256
_PATH = re.compile(r"/shares/(?P<id>[0-9a-f]{24})(?:/files/(?P<name>.+))?", re.ASCII)
_RANGE = re.compile(r"bytes=([0-9]{1,18})-", re.ASCII)
log = logging.getLogger("roundhouse.weights")


class Reader:
    """Computes sums that nobody has asked for yet, beside the server: one thread for each folder."""

    def __init__(self, store: WeightStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._reading: dict[Path, threading.Thread] = {}
        self._failed: dict[Path, WeightsError] = {}

    def record(self, folder: Path) -> FolderRecord | None:
        """What is in it; None while that is being found out. Raises WeightsError, OSError."""
        self._store.refuse_damaged(folder)
        if self._store.book.identity(folder)[1] is not None:
            return self._store.book.read(folder)
        with self._lock:
            failed = self._failed.pop(folder, None)
            if failed is not None:
                raise failed
            if folder not in self._reading:
                self._reading[folder] = threading.Thread(target=self._read, args=(folder,), daemon=True)
                self._reading[folder].start()
        return None

    def _read(self, folder: Path) -> None:
        failed: WeightsError | None = None
        try:
            self._store.learn(folder)
        except WeightsError as problem:
            failed = problem
        except OSError as problem:
            failed = Damaged(f"{folder.name} cannot be read ({problem.strerror})", "look at the disk's health")
        with self._lock:
            self._reading.pop(folder, None)
            if failed is not None:
                self._failed[folder] = failed


class PeerServer(ThreadingHTTPServer):
    """``key``: asked for at each request, so that a changed secret counts at once; "" closes the door."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], store: WeightStore, *, node: str, key: Callable[[], str]) -> None:
        self.node, self.key, self.store = node, key, store
        self.shares = Shares(store.paths)
        self.reader = Reader(store)
        self.turns = Turns(lambda: store.settings.peer_bytes_per_s)
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._unproven: dict[socket.socket, float] = {}  # since when, by the monotonic clock
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, PeerHandler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._unproven[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:  # there was no thread to be had
            self.has_proven(request)
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.has_proven(request)
            self._room.release()

    def has_proven(self, connection: socket.socket) -> None:
        """Its other side knows the key; or it has ended."""
        self._unproven.pop(connection, None)

    def service_actions(self) -> None:
        """Twice a second: hang up on those who take too long to show that they know the key."""
        for connection, since_s in tuple(self._unproven.items()):
            if time.monotonic() - since_s >= PROOF_S:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An asker that left in the middle is no news; it goes on where it stopped."""
        log.debug("a node at %s left", client_address, exc_info=True)


class PeerHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "roundhouse", ""
    timeout = SILENCE_S
    server: PeerServer

    def do_GET(self) -> None:
        key = self.server.key()
        nonce = proof.asked(key, self.path, self.headers.get(proof.HEADER)) if key else None
        if nonce is None:
            return self._say(403, b'{"error": "this is for nodes of the same cluster"}')
        self.server.has_proven(self.connection)
        match = _PATH.fullmatch(self.path)
        share = self.server.shares.find(match["id"]) if match is not None else None
        if match is None or share is None:
            return self._say(404, b'{"error": "this is not shared"}')
        try:
            if match["name"] is None:
                self._list(share, key, nonce)
            else:
                self._send(share, unquote(match["name"]))
        except (WeightsError, FileNotFoundError) as problem:
            self._say(410, msgspec.json.encode({"error": str(problem)}))

    def _list(self, share: Share, key: str, nonce: str) -> None:
        record = self.server.reader.record(Path(share.folder))
        if record is None:
            reading = Reading(reading_bytes=self.server.store.where(Path(share.folder)).bytes)
            body, status = msgspec.json.encode(reading), 202
        else:
            body, status = msgspec.json.encode(shared_folder(self.server.node, share, record)), 200
        self._say(status, body, proof.signed(key, nonce, body))

    def _send(self, share: Share, name: str) -> None:
        path = shared_file(share, self.server.store.book.read(Path(share.folder)), name)
        if path is None:
            return self._say(404, b'{"error": "this file is not shared, or has changed"}')
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            ranged = _RANGE.fullmatch(self.headers.get("range", ""))
            place = min(int(ranged[1]), size_bytes) if ranged is not None else 0
            self.send_response(206 if ranged is not None else 200)
            if ranged is not None:
                self.send_header("content-range", f"bytes {place}-{max(place, size_bytes - 1)}/{size_bytes}")
            self.send_header("content-length", str(size_bytes - place))
            self.end_headers()
            self.wfile.flush()
            self._pour(file, place, size_bytes)

    def _pour(self, file: BinaryIO, place: int, until: int) -> None:
        """From the page cache to the socket, without a copy in between. Raises TimeoutError, OSError."""
        client = self.headers.get(NODE_HEADER, "") or str(self.client_address[0])
        while place < until:
            piece = min(PIECE_BYTES, until - place)
            self.server.turns.take(client, piece)
            sent = self.connection.sendfile(file, place, piece)
            if sent == 0:  # cut short under our hands: the other side sees the missing bytes
                self.close_connection = True
                return
            place += sent

    def _say(self, status: int, body: bytes, signature: str | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if signature is not None:
            self.send_header(proof.HEADER, signature)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)
