"""Nodes of a cluster as far as weights go: a real store and a real server each, on loopback, and no Ray between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.catalog.card import ModelCard
from models.catalog.footprint import SIMULATED
from models.catalog.service import WeightsSettings
from models.control.catalog import CatalogReader
from models.control.fetching import SourceDesk
from models.control.messages import Message
from models.control.supplier import Supplier
from models.fleet.protocol import StartFailed
from models.fleet.supply import Ask, Fetching, NodeSupply
from models.runtimes.protocol import EngineError
from models.weights.store import WeightStore
from packers.types import NodeId

HEAD = NodeId("head")


class Apart(NodeSupply):
    """Of the folders outside of its store it sees those below its own: another machine would have no others."""

    own: Path

    def _folders(self, source: str) -> Iterator[Path]:
        for folder in super()._folders(source):
            if folder.is_relative_to(self.own) or folder.is_relative_to(self._store.paths.root):
                yield folder


class Lan:
    """``asked``: "Fetching w1", in order. Nodes in ``away`` do not answer."""

    def __init__(self, root: Path, *workers: str) -> None:
        self.root = root
        self.secret = root / "cluster.secret"
        self.secret.write_text("s" * 64)
        self.stores: dict[NodeId, WeightStore] = {}
        self.nodes: dict[NodeId, Apart] = {}
        self.asked: list[str] = []
        self.away: set[NodeId] = set()
        self.posted: list[Message] = []
        for name in (HEAD, *workers):
            self._add(NodeId(name))
        self.reader = CatalogReader(root / "head", root / "head" / "store", SIMULATED)
        self.supplier = Supplier(self, lambda: list(self.nodes))  # type: ignore[arg-type]
        self.desk = SourceDesk(self.reader, post=self.posted.append, supplier=self.supplier, here=HEAD)
        self.desk.configure(WeightsSettings())

    def _add(self, name: NodeId) -> None:
        store = self.stores[name] = WeightStore(self.root / name / "store")
        node = self.nodes[name] = Apart(store, node=name, address="127.0.0.1", secret_file=self.secret)
        node.own = self.root / name

    async def weights(self, node: NodeId, ask: Ask) -> Any:
        if not isinstance(ask, Fetching) or ask.peers or ask.download:
            self.asked.append(f"{type(ask).__name__} {node}")
        if node in self.away:
            raise StartFailed(f"{node} does not answer")
        try:
            return await self.nodes[node].answer(ask)
        except EngineError as problem:
            raise StartFailed(str(problem), problem.fault) from problem

    def fetches(self) -> list[str]:
        return [each for each in self.asked if each.startswith("Fetching")]

    def card(self, source: str, **more: Any) -> ModelCard:
        return ModelCard.model_validate({"model_id": "tiny", "model_source": source, **more})

    async def close(self) -> None:
        for node in self.nodes.values():
            await node.close()
