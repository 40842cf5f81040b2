"""``python -m models.weights --root FOLDER --source URL``: fetch a source; JSON lines of progress, then the outcome.

It ends when nobody reads them any more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from models import secret
from models.weights.child import Outcome
from models.weights.errors import SourceRefused, WeightsError
from models.weights.peers.remote import Peer
from models.weights.peers.supply import supply
from models.weights.records import Progress, SourceRecord
from models.weights.store import WeightStore
from models.weights.urls import parse_source


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.weights")
    parser.add_argument("--root", required=True, help="folder of the store")
    parser.add_argument("--source", required=True, help="hf://org/repo@revision, s3://bucket/prefix or a folder")
    parser.add_argument("--peers", default="[]", help="other nodes that have it, as JSON (models.weights.peers.remote)")
    parser.add_argument("--peers-only", action="store_true", help="never ask the source itself")
    parser.add_argument("--secret-file", help="with the cluster's secret, for peers")
    parser.add_argument("--node", default="", help="name of this node, for peers")
    args = parser.parse_args()
    try:
        record = _fetch(args)
    except WeightsError as error:
        refused = isinstance(error, SourceRefused)
        _write(Outcome(error=error.message, cure=error.cure, refused=refused))
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        _write(Outcome(error=f"the store cannot be written ({error.strerror})", cure="look at the disk"))
        return 1
    _write(Outcome(folder=record.folder))
    return 0


def _fetch(args: argparse.Namespace) -> SourceRecord:
    """Raises WeightsError, OSError."""
    store, url = WeightStore(Path(args.root)), parse_source(args.source, Path.cwd())
    peers = msgspec.json.decode(args.peers, type=tuple[Peer, ...])
    if not peers and not args.peers_only:
        return store.fetch(url, tell=_tell)
    key = ""
    if peers:
        try:
            key = secret.key(secret.read(Path(args.secret_file or "")), "weights")
        except secret.NoSecret as problem:
            raise SourceRefused(str(problem)) from None
    return supply(store, url, peers, key=key, me=args.node, download=not args.peers_only, tell=_tell)


def _tell(progress: Progress) -> None:
    _write(progress)


def _write(line: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
