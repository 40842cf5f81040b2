"""Admin endpoints for nodes: how they stand, what is on them, and orders to single ones."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import Response

from gateway.documents import answer, shape
from gateway.errors import InvalidRequest
from gateway.orders import Orders
from gateway.state import State
from models.store.records import CommandReply, FleetRecord, NodeRecord

ACCEPT_TIMEOUT_S = 10.0
LONGEST_NOTICE_S = 86_400.0
Verb = Literal["cordon", "uncordon", "drain", "reclaim"]


class NodeView(NodeRecord, frozen=True):
    """A node with what is on it. ``lost_gpus``: of its GPUs those that can hold nothing any more."""

    gpus: tuple[str, ...] = ()
    lost_gpus: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    gpu_memory_bytes: int = 0
    gpu_reserved_bytes: int = 0
    replicas: tuple[str, ...] = ()


class NodeList(msgspec.Struct, kw_only=True):
    """Those that are there, then for some minutes those that were lost."""

    object: str = "list"
    data: tuple[NodeView, ...]


DOCUMENTS = (NodeList, NodeView)


def add_nodes(router: APIRouter, state: State, orders: Orders) -> None:
    @router.get("/nodes", responses=shape(NodeList), operation_id="list_nodes")
    async def nodes() -> Response:
        """Each with its state: ready; away, it does not answer and what it serves goes on; leaving, it will be taken
        away; lost."""
        return answer(node_list(await state.fleet()))

    @router.post("/nodes/{node}/{verb}", responses=shape(CommandReply), operation_id="order_node")
    async def order(
        node: str,
        verb: Verb,
        wait: bool = False,
        timeout_s: Annotated[float, Query(gt=0, le=600)] = 120.0,
        in_s: Annotated[float | None, Query(gt=0, le=LONGEST_NOTICE_S)] = None,
        dry_run: bool = False,
    ) -> Response:
        """``cordon``: nothing new goes to the node. ``drain``: what is there leaves, too, substitutes elsewhere first.
        ``reclaim``: the node will be taken away ``in_s`` from now; all is gone a little before. ``uncordon`` takes each
        of them back. With ``wait=true`` the answer comes when the node is empty; with ``dry_run=true`` nothing changes,
        and ``detail.plan`` says what would be decided at once."""
        if (verb == "reclaim") is (in_s is None):
            said = "say in_s, in how many seconds it will be gone" if in_s is None else f"in_s is not for {verb}"
            raise InvalidRequest(f"{said}.", param="in_s")
        limit_s = timeout_s if wait and not dry_run else min(timeout_s, ACCEPT_TIMEOUT_S)
        reply = await orders.give(
            verb, None, node=node, wait=wait, timeout_s=limit_s, for_s=in_s or 0.0, dry_run=dry_run
        )
        return answer(reply)


def node_list(fleet: FleetRecord) -> NodeList:
    return NodeList(data=tuple(_view(node, fleet) for node in fleet.nodes))


def _view(node: NodeRecord, fleet: FleetRecord) -> NodeView:
    mine = [gpu for gpu in fleet.gpus if gpu.node == node.id]
    there = [gpu for gpu in mine if not gpu.lost]
    return NodeView(
        **msgspec.structs.asdict(node),
        gpus=tuple(gpu.id for gpu in there),
        lost_gpus=tuple(gpu.id for gpu in mine if gpu.lost),
        pools=tuple(sorted({gpu.pool for gpu in mine})),
        gpu_memory_bytes=sum(gpu.memory_bytes for gpu in there),
        gpu_reserved_bytes=sum(gpu.reserved_bytes for gpu in there),
        replicas=tuple(replica.replica_id for replica in fleet.replicas if replica.node == node.id),
    )
