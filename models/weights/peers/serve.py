"""``python -m models.weights.peers.serve --root FOLDER --node NAME --host ADDRESS --secret-file FILE``

One line of JSON with the port, then it serves until its standard input is closed: it ends with whoever started it.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path

import msgspec

from models import secret
from models.weights.peers.server import PeerServer
from models.weights.records import Struct
from models.weights.store import WeightStore

NEVER = -1  # there is no file whose time could be told
NICER = 5  # than engines: what they compute is waited for by more people


class Listening(Struct, frozen=True):
    port: int = 0
    error: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.weights.peers.serve")
    parser.add_argument("--root", required=True, help="folder of the store")
    parser.add_argument("--node", required=True, help="name of this node")
    parser.add_argument("--host", required=True, help="address that other nodes reach it at")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument("--secret-file", required=True, help="with the cluster's secret")
    args = parser.parse_args()
    os.nice(NICER)
    store = WeightStore(Path(args.root))
    try:
        server = PeerServer((args.host, args.port), store, node=args.node, key=_Key(Path(args.secret_file)))
    except (OSError, secret.NoSecret) as problem:
        _write(Listening(error=str(problem)))
        return 1
    threading.Thread(target=server.serve_forever, name="peers", daemon=True).start()
    _write(Listening(port=server.server_address[1]))
    sys.stdin.buffer.read()
    return 0


class _Key:
    """The key of this purpose, read anew when its file changed. "" while there is none, which lets nobody in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen_ns = NEVER
        self._key = secret.key(secret.read(path), "weights")

    def __call__(self) -> str:
        try:
            changed_ns = self._path.stat().st_mtime_ns
        except OSError:
            changed_ns = NEVER
        if changed_ns == self._seen_ns != NEVER:
            return self._key
        self._seen_ns = changed_ns
        try:
            self._key = secret.key(secret.read(self._path), "weights")
        except secret.NoSecret:
            self._key = ""
        return self._key


def _write(line: Listening) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
