"""Admin endpoint for the weights of a node, wherever in the cluster it is."""

from __future__ import annotations

from typing import Literal

import msgspec
from fastapi import APIRouter
from fastapi.responses import Response

from gateway.documents import answer, shape
from gateway.orders import Orders

ASK_TIMEOUT_S = 15.0


class WeightsItem(msgspec.Struct, kw_only=True):
    """``kind``: download, layout, partial, or folder, which takes no room of the store's. Bytes, Unix times.

    ``state``: for people, such as what needs it, how far it is, or what is damaged.
    """

    source: str
    kind: str
    path: str
    bytes: int
    state: str
    cached_fraction: float | None = None
    used_unix_s: float | None = None
    checked_unix_s: float | None = None


class NodeWeights(msgspec.Struct, kw_only=True):
    """Everything in the store of one node, as ``roundhouse weights list`` shows it there."""

    object: Literal["list"] = "list"
    node: str
    quota_bytes: int | None
    used_bytes: int
    free_bytes: int
    data: tuple[WeightsItem, ...]


DOCUMENTS = (NodeWeights,)


def add_weights(router: APIRouter, orders: Orders) -> None:
    @router.get("/nodes/{node}/weights", responses=shape(NodeWeights), operation_id="list_weights_of_node")
    async def weights(node: str) -> Response:
        """What takes room there, what is on its way, and what was found damaged."""
        reply = await orders.give("weights", None, wait=False, timeout_s=ASK_TIMEOUT_S, node=node)
        return answer(msgspec.convert(reply.detail, NodeWeights))
