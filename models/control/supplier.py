"""Sees to it that a node has weights before an engine starts there: there already, from a peer, from their source."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Iterable

from models.fleet.protocol import Fleet, StartFailed
from models.fleet.supply import Fetching, Finding, Found, Offering, Wanted, Watching
from models.weights.peers.remote import Peer
from models.weights.records import Progress, Settings
from models.weights.urls import is_remote
from packers.types import NodeId

log = logging.getLogger("roundhouse.control")
FIND_S = 60.0  # for samples of its files; a node that is away is waited for as long
OFFERS_S = 10.0  # for all nodes together
LATE_OFFERS_S = 1.0  # for the others, once one has offered it
WATCH_EVERY_S = 1.0
LOOK_S = 5.0
SILENT_LOOKS = 30  # and a fetch is given up: its node may go on, and be found to have it by the next start


class Supplier:
    """``nodes``: those that answer now. ``configure`` says what starts may do."""

    def __init__(
        self,
        fleet: Fleet,
        nodes: Callable[[], Iterable[NodeId]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._fleet = fleet
        self._nodes = nodes
        self._sleep = sleep
        self._settings: Settings | None = None
        self._download = False

    def configure(self, settings: Settings, *, download: bool) -> None:
        self._settings, self._download = settings, download

    def others(self, node: NodeId) -> list[NodeId]:
        return [other for other in self._nodes() if other != node]

    async def bring(self, node: NodeId, wanted: Wanted, tell: Callable[[Progress], None]) -> Found:
        """What the node has of it, afterwards. Raises StartFailed with one clear sentence that names the node."""
        try:
            async with asyncio.timeout(FIND_S):
                found: Found | None = await self._fleet.weights(node, Finding(wanted=wanted))
        except TimeoutError:
            raise StartFailed(f"{node} has not found out within {FIND_S:g} s whether it has {wanted.source}") from None
        if found is not None:
            return found
        peers = await self._offers(node, wanted)
        log.info("%s gets %s from %s", node, wanted.source, ", ".join(peer.node for peer in peers) or "its source")
        download = self._download and is_remote(wanted.source)
        if not peers and not download:
            raise StartFailed(_nowhere(node, wanted), "weights")
        ask = Fetching(wanted=wanted, peers=peers, download=download, settings=self._settings)
        fetch = asyncio.ensure_future(self._fleet.weights(node, ask))
        watch = asyncio.ensure_future(self._watch(node, wanted.source, tell))
        try:
            await asyncio.wait((fetch, watch), return_when=asyncio.FIRST_COMPLETED)
            if not fetch.done():
                raise StartFailed(f"{node} has not answered for {SILENT_LOOKS * WATCH_EVERY_S:.0f} s while it fetched")
            brought: Found = fetch.result()
            return brought
        finally:
            fetch.cancel()
            watch.cancel()

    async def _offers(self, node: NodeId, wanted: Wanted) -> tuple[Peer, ...]:
        """Each node begins with another peer, so that many that fetch the same do not all begin with one."""
        asked = [asyncio.ensure_future(self._offer(other, wanted)) for other in self.others(node)]
        if not asked:
            return ()
        peers: list[Peer] = []
        late: set[asyncio.Future[Peer | None]] = set(asked)
        deadline_s = asyncio.get_running_loop().time() + OFFERS_S
        try:
            while late:
                left_s = deadline_s - asyncio.get_running_loop().time()
                limit_s = min(LATE_OFFERS_S, left_s) if peers else left_s
                done, late = await asyncio.wait(late, timeout=max(limit_s, 0.0), return_when=asyncio.FIRST_COMPLETED)
                peers += [peer for task in done if (peer := task.result()) is not None]
                if not done:
                    break
        finally:
            for task in late:
                task.cancel()
        return tuple(sorted(peers, key=lambda peer: zlib.crc32(f"{node} {peer.node}".encode())))

    async def _offer(self, other: NodeId, wanted: Wanted) -> Peer | None:
        try:
            offered: Peer | None = await self._fleet.weights(other, Offering(wanted=wanted))
        except StartFailed as problem:
            log.info("%s offers nothing: %s", other, problem)
            return None
        return offered

    async def _watch(self, node: NodeId, source: str, tell: Callable[[Progress], None]) -> None:
        """Until the node has been silent for too long."""
        silent = 0
        while silent < SILENT_LOOKS:
            await self._sleep(WATCH_EVERY_S)
            try:
                async with asyncio.timeout(LOOK_S):
                    progress: Progress | None = await self._fleet.weights(node, Watching(source=source))
            except StartFailed:
                silent += 1
                continue
            except TimeoutError:
                silent += 1 + round(LOOK_S / WATCH_EVERY_S)
                continue
            silent = 0
            if progress is not None:
                tell(progress)


def _nowhere(node: NodeId, wanted: Wanted) -> str:
    what = f"its adapter {wanted.adapter!r} is" if wanted.adapter else "its weights are"
    cure = (
        f"let starts fetch them (weights: {{download: true}}), or run roundhouse weights import {wanted.card.model_id}"
        if is_remote(wanted.source)
        else "put the folder on one of them"
    )
    return f"Model {wanted.card.model_id!r} cannot be started on {node}: {what} on no node that answers; {cure}."
