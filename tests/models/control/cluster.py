"""A controller of many virtual nodes, and what has to hold of it at every moment."""

from __future__ import annotations

from collections.abc import Iterable

from models.catalog.card import ModelCard
from models.control.messages import Ordered
from models.fleet.protocol import FleetNode
from models.fleet.virtual import settle
from models.store.records import Command, CommandReply, NodeRecord
from packers.ledger import Ledger
from packers.types import OWNED, NodeId, PoolId, ReplicaId, ReplicaState
from tests.models.control.scene import Scene, fleet_node


def node(name: str, *gpus_mib: int, host_mib: int = 4096, pool: PoolId = OWNED) -> FleetNode:
    return fleet_node(gpus_mib or (100,), host_mib, name=name, pool=pool)


class Cluster(Scene):
    """A scene with nodes. ``told``: the replies to orders, by command."""

    def __init__(self, cards: list[ModelCard], nodes: Iterable[FleetNode]) -> None:
        super().__init__(cards, nodes=tuple(nodes))

    async def restart_controller(self, remembers: bool = False) -> int:
        """Its process is gone, and all that it was about to do with it."""
        for task in tuple(self.controller._tasks):
            task.cancel()
        await settle()
        return await super().restart_controller(remembers)

    def order_node(
        self, verb: str, name: str, *, wait: bool = False, dry_run: bool = False, in_s: float | None = None
    ) -> str:
        until = None if in_s is None else self.clock() + in_s
        command = Command(
            id=f"n{next(self._commands)}", verb=verb, node=name, wait=wait, dry_run=dry_run, until_unix_s=until
        )
        self.controller.post(Ordered(command))
        return command.id

    async def told(self, command: str, seconds: float = 0.1) -> CommandReply:
        await self.run(seconds)
        reply = self.reply(command)
        assert reply is not None, f"{command} was not answered within {seconds} s"
        return reply

    def stands(self, name: str) -> NodeRecord:
        assert self.store.fleet is not None
        return next(record for record in self.store.fleet.nodes if record.id == name)

    def there(self, name: str) -> dict[str, str]:
        """Replicas on the node -> their states."""
        assert self.store.fleet is not None
        return {one.replica_id: one.state for one in self.store.fleet.replicas if one.node == name}

    def where(self, model: str) -> list[str]:
        """The GPUs of its replicas that serve or start, sorted."""
        assert self.store.fleet is not None
        return sorted(
            one.gpu for one in self.store.fleet.replicas if one.model_id == model and one.state in ("ready", "starting")
        )

    def served(self, model: str) -> bool:
        return any(one.state == "ready" for one in self.route(model).replicas)

    async def ready(self, *models: str, seconds: float = 2.0) -> None:
        """Callers of each come and are served."""
        for model in models:
            self.hold(model)
        await self.run(seconds, step_s=0.05)
        assert not self.held.keys() & set(models), f"{sorted(self.held)} still wait: {self.states()}"

    def check(self) -> None:
        """The ledger never holds more than there is, and says the same as packers; nothing lives without a reservation
        on a node that is there; nothing is on record twice, or on hardware that is gone."""
        world = self.controller.world
        gpus = {gpu.id: gpu for gpu in world.gpus}
        for gpu in gpus.values():
            assert 0 <= world.ledger.free_gpu(gpu.id) <= gpu.memory_bytes
        for name in world.nodes:
            assert world.ledger.free_host(name) >= 0
        said = {entry.replica: entry for entry in Ledger.of(world.snapshot(self.clock())).entries()}
        entries = {entry.replica: entry for entry in world.ledger.entries()}
        for replica, entry in entries.items():
            assert entry.gpu in gpus
            assert replica in world.replicas
            assert said[replica].gpu_bytes == entry.gpu_bytes, replica
        for replica, tracked in world.replicas.items():
            assert tracked.node in world.nodes
            assert tracked.gpu in gpus
            assert replica in entries or tracked.state is ReplicaState.DEAD
        self._check_engines(set(entries))

    def _check_engines(self, reserved: set[ReplicaId]) -> None:
        world = self.controller.world
        for replica, (name, status) in self.fleet.engines.items():
            if name not in world.nodes or world.yard.is_away(name):
                continue
            gpu = status.order.tag
            lost = any(one in gpu for standing in world.yard for one in standing.lost_gpus)
            assert replica in reserved or lost or self._is_being_stopped(replica), f"{replica} lives unreserved"

    def _is_being_stopped(self, replica: ReplicaId) -> bool:
        return f"stop {replica}" in self.fleet.calls


def names(count: int) -> list[NodeId]:
    return [NodeId(f"n{number:02}") for number in range(count)]
