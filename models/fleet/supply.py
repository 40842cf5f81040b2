"""What the controller asks a node about weights, and how the node answers: here already, from a peer, from far away.

1. **Here**: imported into the node's store, in the very folder that the card names, or in the user's hub cache; as long
   as it is what the controller's machine has, told by its digest where both know one, else by its likeness.
2. **From peers**: nodes that have it offer a share (``Offering``); the controller passes that on (``Fetching``).
3. **From its own source**: where the configuration lets starts download.

A node fetches a content once, however many ask for it at the same time.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from models.catalog.adapters import check_adapter
from models.catalog.card import ModelCard
from models.catalog.errors import SourceError
from models.catalog.known import SourceFacts, facts_of
from models.fleet.node_place import NodePlace
from models.runtimes.protocol import EngineError
from models.weights.child import Through, fetch_in_child
from models.weights.errors import WeightsError
from models.weights.hub_cache import find_snapshot, users_cache
from models.weights.peers.likeness import Likenesses
from models.weights.peers.remote import Peer
from models.weights.peers.served import Door, ServedShares
from models.weights.peers.shares import Shares
from models.weights.records import Progress, Settings, SourceRecord, load
from models.weights.store import WeightStore
from models.weights.urls import FolderUrl, HubUrl, parse_source

log = logging.getLogger("roundhouse.fleet")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """``source``: a whole path, hf://... or s3://... ``adapter``: it is one of the card's LoRA adapters, not its model.

    ``digest``, ``likeness``: of the content that counts; "" where the controller's machine has none, and any will do.
    """

    card: ModelCard
    source: str
    adapter: str = ""
    digest: str = ""
    likeness: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Is it there? Answered with ``Found``, or None."""

    wanted: Wanted


class Offering(msgspec.Struct, frozen=True, kw_only=True):
    """Would the node give it to others? Answered with ``Peer``, or None."""

    wanted: Wanted


class Fetching(msgspec.Struct, frozen=True, kw_only=True):
    """Have it, from ``peers`` or, where ``download`` allows, its source. Answered with ``Found``."""

    wanted: Wanted
    peers: tuple[Peer, ...] = ()
    download: bool = False
    settings: Settings | None = None  # of the store, as configured


class Watching(msgspec.Struct, frozen=True, kw_only=True):
    """How far is it? Answered with ``Progress``, or None."""

    source: str


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Everything in the store. Answered with a document (``models.weights.listing``)."""


Ask = Finding | Offering | Fetching | Watching | Listing


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """``folder``: on that node. ``facts``: of a model, for a controller that has no copy of it."""

    folder: str
    facts: SourceFacts | None = None


def supply_of(place: NodePlace, store: WeightStore) -> NodeSupply:
    """Of the node whose actor asks for it."""
    file = place.file
    return NodeSupply(store, node=place.name, address=file.address, secret_file=place.home.cluster_secret)


class NodeSupply:
    """``address``: where others reach this node. ``secret_file``: of the cluster. One event loop."""

    def __init__(
        self,
        store: WeightStore,
        *,
        node: str,
        address: str,
        secret_file: Path,
        fetch: Callable[[Path, str, Callable[[Progress], None], Through | None], Awaitable[Path]] = fetch_in_child,
    ) -> None:
        self._store = store
        self._node = node
        self._address = address
        self._secret_file = secret_file
        self._fetch = fetch
        self._likenesses = Likenesses()
        self._served: ServedShares | None = None
        self._coming: dict[tuple[str, str], asyncio.Task[Path]] = {}  # by source and likeness
        self._waiting: dict[tuple[str, str], int] = {}

    async def answer(self, ask: Ask) -> Any:
        """Raises EngineError."""
        match ask:
            case Finding(wanted=wanted):
                return await asyncio.to_thread(self.find, wanted)
            case Offering(wanted=wanted):
                return await self.offer(wanted)
            case Fetching():
                return await self.fetch(ask)
            case Watching(source=source):
                return await asyncio.to_thread(self._store.progress_of, source)
            case Listing():
                from models.weights.listing import listing

                return await asyncio.to_thread(listing, self._store)

    async def close(self) -> None:
        for task in self._coming.values():
            task.cancel()
        if self._served is not None:
            await self._served.close()

    # -- here -----------------------------------------------------------------------------------------------------

    def find(self, wanted: Wanted) -> Found | None:
        """The first folder with the wanted content that can be served."""
        for folder in self._folders(wanted.source):
            try:
                if self._is_it(folder, wanted):
                    return Found(folder=str(folder), facts=self._checked(folder, wanted))
            except (WeightsError, SourceError, OSError) as problem:
                log.info("%s is not what %s needs: %s", folder, wanted.card.model_id, problem)
        return None

    def _folders(self, source: str) -> Iterator[Path]:
        found = self._store.find(source)
        if found is not None:
            yield found
        url = parse_source(source, Path("/"))
        if isinstance(url, FolderUrl) and url.folder != found and url.folder.is_dir():
            yield url.folder
        if isinstance(url, HubUrl):
            snapshot = find_snapshot(users_cache(os.environ), url)
            if snapshot is not None:
                yield snapshot

    def _is_it(self, folder: Path, wanted: Wanted) -> bool:
        self._store.refuse_damaged(folder)
        if not wanted.likeness:
            return True
        digest = self._store.book.identity(folder)[1]
        if wanted.digest and digest:
            return wanted.digest == digest
        return self._likenesses.of(folder) == wanted.likeness

    def _checked(self, folder: Path, wanted: Wanted) -> SourceFacts | None:
        """Raises SourceError, WeightsError."""
        if wanted.adapter:
            check_adapter(folder)
            return None
        return facts_of(wanted.card, folder)

    # -- for others -----------------------------------------------------------------------------------------------

    async def offer(self, wanted: Wanted) -> Peer | None:
        found = await asyncio.to_thread(self.find, wanted)
        if found is None:
            return None
        door = Door(self._store.paths.root, self._node, self._address, self._secret_file)
        if self._served is None or self._served.door != door:
            if self._served is not None:
                await self._served.close()
            self._served = ServedShares(door)
        try:
            port = await self._served.port()
            share = await asyncio.to_thread(self._grant, Path(found.folder), wanted.source)
        except (WeightsError, OSError) as problem:
            log.warning("%s cannot be given to other nodes: %s", wanted.source, problem)
            return None
        return Peer(node=door.node, host=door.host, port=port, share=share[0], version=share[1])

    def _grant(self, folder: Path, source: str) -> tuple[str, str]:
        """(its id, its version): the source's own where that is known, so that others could go on there."""
        url = parse_source(source, Path("/"))
        record = load(self._store.paths.source(source), SourceRecord)
        version = ""
        if isinstance(url, FolderUrl):
            pass  # only its content names it
        elif record is not None and record.folder == str(folder):
            version = record.version
        elif isinstance(url, HubUrl):
            version = folder.name  # a snapshot's folder is called by its commit
        return Shares(self._store.paths).grant(folder, source, version).id, version

    # -- from others ----------------------------------------------------------------------------------------------

    async def fetch(self, ask: Fetching) -> Found:
        """Raises EngineError with one clear sentence that names this node."""
        wanted = ask.wanted
        if ask.settings is not None:
            await asyncio.to_thread(self._store.configure, ask.settings)
        try:
            folder = await self._come(ask)
        except WeightsError as problem:
            raise EngineError(self._refusal(wanted, str(problem)), "weights") from problem
        try:
            return Found(folder=str(folder), facts=await asyncio.to_thread(self._checked, folder, wanted))
        except (SourceError, WeightsError) as problem:
            raise EngineError(self._on_this_node(wanted, str(problem)), "weights") from problem

    async def _come(self, ask: Fetching) -> Path:
        """Whoever asks for what is on its way already waits for that; when nobody waits any more, it stops."""
        content = ask.wanted.source, ask.wanted.likeness
        task = self._coming.get(content)
        if task is None:
            through = Through(ask.peers, self._secret_file, self._node, ask.download)
            work = self._fetch(self._store.paths.root, ask.wanted.source, lambda progress: None, through)
            task = self._coming[content] = asyncio.ensure_future(work)
        self._waiting[content] = self._waiting.get(content, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiting[content] -= 1
            if not self._waiting[content]:
                del self._waiting[content], self._coming[content]
                task.cancel()

    def _refusal(self, wanted: Wanted, reason: str) -> str:
        what = f", its adapter {wanted.adapter!r}" if wanted.adapter else ""
        source = wanted.source
        return f"Model {wanted.card.model_id!r} cannot be started on {self._node} from {source}{what}: {reason}."

    def _on_this_node(self, wanted: Wanted, said: str) -> str:
        """What a check of the card says, with the name of the node it was made on."""
        began = f"Model {wanted.card.model_id!r} cannot be started from "
        if said.startswith(began):
            return said.replace(began, f"Model {wanted.card.model_id!r} cannot be started on {self._node} from ", 1)
        return self._refusal(wanted, said)
