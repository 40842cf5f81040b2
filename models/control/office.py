"""How a controller comes into office, and how it stays there when Redis has forgotten everything.

Two things know who is in office: Redis, by the epoch under which all is written, and the nodes, each of which obeys the
highest epoch that it has heard. Redis may lose what it holds; a node may be away. Together they do not forget.
"""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path
from typing import Protocol

from models.control.fence import LeaseLost
from models.fleet.protocol import Superseded

log = logging.getLogger("roundhouse.control")


class Epochs(Protocol):
    """``models.control.fence.Fence``."""

    epoch: int

    async def take(self, above: int = 0) -> int: ...

    async def restore(self) -> None: ...


class Nodes(Protocol):
    """The part of ``models.fleet.protocol.Fleet`` that is needed here."""

    async def claim(self, epoch: int) -> int: ...


async def take_office(epochs: Epochs, nodes: Nodes) -> int:
    """Become the one controller: the epoch, above any that Redis or a node has heard of. Raises RedisError."""
    epoch = await epochs.take()
    while (obeyed := await nodes.claim(epoch)) >= epoch:
        log.warning("Redis has forgotten that controller %d was in office; the nodes have not", obeyed)
        epoch = await epochs.take(above=obeyed)
    log.info("controller %d is in office", epoch)
    return epoch


async def stay_in_office(epochs: Epochs, nodes: Nodes) -> None:
    """Redis has forgotten who is in office: it is this controller, unless a node has heard of a later one.

    Raises Superseded, LeaseLost, RedisError.
    """
    obeyed = await nodes.claim(epochs.epoch)
    if obeyed > epochs.epoch:
        raise Superseded(obeyed)
    await epochs.restore()
    log.warning("Redis has lost what it held; controller %d writes its state anew", epochs.epoch)


def deposed(problem: BaseException) -> bool:
    """Whether it says, be it in a group, that a later controller is in office."""
    if isinstance(problem, BaseExceptionGroup):
        return any(deposed(each) for each in problem.exceptions)
    return isinstance(problem, LeaseLost | Superseded)


def cluster_id(path: Path) -> str:
    """Drawn at the first start of a cluster, and kept in this file. Raises OSError."""
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(8))
    except FileExistsError:
        pass
    return path.read_text().strip()
