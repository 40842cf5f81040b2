"""Where the weights of a start come from when they are not on its node: other nodes first, then their own source."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from models.weights.errors import Damaged, SourceRefused, TransferFailed, WeightsError
from models.weights.peers.remote import Peer, PeersRemote
from models.weights.progress import OnProgress
from models.weights.records import SourceRecord
from models.weights.store import WeightStore
from models.weights.urls import FolderUrl, SourceUrl

log = logging.getLogger("roundhouse.weights")


def supply(
    store: WeightStore, url: SourceUrl, peers: Sequence[Peer], *, key: str, me: str, download: bool, tell: OnProgress
) -> SourceRecord:
    """In this order; what has arrived from one counts for the next.

    1. All peers with the same content together.
    2. When what they gave was damaged, each by itself: whose disk it is shows in no other way.
    3. The source itself, where ``download`` allows it; a local folder that is nowhere here has none.

    Raises SourceRefused, TransferFailed, Damaged, NoRoom, Busy, OSError.
    """
    problem: WeightsError = SourceRefused("no node of the cluster has it", "put it in its place on one of them")
    for chosen in _rounds(peers):
        try:
            return store.bring(PeersRemote(url, chosen, key=key, me=me), tell)
        except Damaged as damaged:
            problem = damaged
        except (SourceRefused, TransferFailed) as refused:
            problem = refused
            if len(chosen) == len(peers):
                break
        log.warning("%s did not come from %s: %s", url, ", ".join(peer.node for peer in chosen), problem)
    if isinstance(url, FolderUrl) or not download:
        raise problem
    return store.fetch(url, tell=tell)


def _rounds(peers: Sequence[Peer]) -> list[list[Peer]]:
    if not peers:
        return []
    alone = [[peer] for peer in peers] if len(peers) > 1 else []
    return [list(peers), *alone]
