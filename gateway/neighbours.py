"""How this gateway reaches replicas: those of its own node on their unix sockets, those of other nodes at the node's
address, where it shows the cluster's key.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from models import secret
from models.fleet import node_file
from models.home import Home, node_name
from models.runtimes.protocol import KEY_HEADER
from models.store.records import ModelRoute, ReplicaRoute, RouteTable

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _View:
    """A model as the controller wrote it, and as it is from here. ``away``: endpoints on other nodes."""

    written: ModelRoute
    seen: ModelRoute
    away: tuple[str, ...] = ()


class Neighbours:
    """``here``: the name of this node; "" where there are no others. ``secret_path``: of the cluster.

    ``headers``: the lines that requests to an endpoint get. ``problem``: why replicas of other nodes are out of reach.
    """

    def __init__(self, here: str = "", secret_path: Path | None = None) -> None:
        self._here = here
        self._secret_path = secret_path
        self._line = b""
        self._looked = False
        self._views: dict[str, _View] = {}
        self.headers: dict[str, bytes] = {}
        self.problem = ""

    @classmethod
    def of(cls, home: Home) -> Neighbours:
        """Raises OSError, msgspec.MsgspecError for a node's file that cannot be read."""
        return cls(node_file.read(home.node_file, otherwise=node_name()).name, home.cluster_secret)

    def seen(self, table: RouteTable) -> RouteTable:
        """The table as it holds for this node: with the endpoint that reaches each replica from here, and without the
        replicas that cannot be reached. A model that is the same object as in the last table is so in this one, too."""
        if not self._here:
            return table
        known = {} if self.problem else self._views  # what was left out for want of the key is looked at again
        problem, self.problem, self._looked = self.problem, "", False
        self._views = {model.model_id: self._view(model, known.get(model.model_id)) for model in table.models}
        if any(view.away for view in self._views.values()):
            self._has_key()
        self.headers = {away: self._line for view in self._views.values() for away in view.away}
        if self.problem and self.problem != problem:
            log.error("other nodes are out of reach", reason=self.problem)
        models = tuple([self._views[model.model_id].seen for model in table.models])
        return msgspec.structs.replace(table, models=models)

    def _view(self, model: ModelRoute, before: _View | None) -> _View:
        if before is not None and before.written is model:
            return before
        if not any(self._elsewhere(replica) for replica in model.replicas):
            return _View(model, model)
        replicas = tuple(each for replica in model.replicas if (each := self._reached(replica)) is not None)
        away = tuple(replica.endpoint for replica in replicas if self._elsewhere(replica))
        return _View(model, msgspec.structs.replace(model, replicas=replicas), away)

    def _elsewhere(self, replica: ReplicaRoute) -> bool:
        """One that names no node is an endpoint for everybody."""
        return replica.node not in ("", self._here)

    def _reached(self, replica: ReplicaRoute) -> ReplicaRoute | None:
        if not self._elsewhere(replica):
            return replica
        if replica.address is None or not self._has_key():
            return None
        return msgspec.structs.replace(replica, endpoint=replica.address)

    def _has_key(self) -> bool:
        """Read once a table, for it may be rotated. The last one holds while there is none."""
        if self._secret_path is not None and not self._looked:
            self._looked = True
            try:
                self._line = f"{KEY_HEADER}: {secret.key(secret.read(self._secret_path), 'engines')}\r\n".encode()
            except secret.NoSecret as missing:
                if not self._line:
                    self.problem = f"replicas of other nodes cannot be called: {missing}"
        return bool(self._line)
