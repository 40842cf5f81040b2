"""Nodes of one cluster on loopback: each with a store of its own, its shares served by a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.weights.peers.remote import Peer
from models.weights.peers.server import PeerServer
from models.weights.peers.turns import Turns
from models.weights.store import WeightStore

KEY = "k" * 64


class Counted(Turns):
    """Counts what each asker was given. ``break_at``: after so many bytes every connection breaks."""

    def __init__(self) -> None:
        super().__init__(lambda: 0)
        self.given: dict[str, int] = {}
        self.break_at: int | None = None
        self._mine = threading.Lock()

    def take(self, client: str, count: int) -> None:
        with self._mine:
            if self.break_at is not None and sum(self.given.values()) + count > self.break_at:
                raise ConnectionResetError("the node is gone")
            self.given[client] = self.given.get(client, 0) + count


class Neighbour:
    """``offer`` is what a node answers when it is asked for a folder."""

    def __init__(self, name: str, root: Path, key: str = KEY) -> None:
        self.name = name
        self.store = WeightStore(root / name, env={})
        self.key = key
        self.server = PeerServer(("127.0.0.1", 0), self.store, node=name, key=lambda: self.key)
        self.turns = Counted()
        self.server.turns = self.turns

    @property
    def given_bytes(self) -> int:
        return sum(self.turns.given.values())

    def offer(self, folder: Path, source: str, version: str = "") -> Peer:
        share = self.server.shares.grant(folder, source, version)
        return Peer(
            node=self.name, host="127.0.0.1", port=self.server.server_address[1], share=share.id, version=version
        )

    @contextmanager
    def open(self) -> Iterator[Neighbour]:
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()


def gone(peer: Peer, port: int) -> Peer:
    """The same share at a port where nobody listens."""
    return Peer(node=f"{peer.node}-gone", host=peer.host, port=port, share=peer.share, version=peer.version)
