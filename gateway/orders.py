"""Operators' orders on their way to the controller: a command is pushed, its reply is waited for."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from redis.asyncio import Redis

from gateway.errors import (
    Conflict,
    ControllerUnavailable,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    Unavailable,
)
from gateway.order_acts import act_of, act_record, asked_of, is_act, stand_of
from gateway.state import asking_redis
from models.store.audit import AUDIT_MAX, FIELD
from models.store.codec import decode, encode, load_async
from models.store.keys import Keys
from models.store.records import Command, CommandReply, FleetRecord
from models.store.tenancy import AuditRecord

LOOK_EVERY_S = 1.0  # a blocking pop is asked again after this long, so that no socket times out meanwhile


class OrderPending(ControllerUnavailable):
    """The controller took the order but has not finished it."""

    code = "order_pending"


@dataclass(frozen=True, slots=True)
class Orders:
    redis: Redis
    keys: Keys
    monotonic: Callable[[], float] = time.monotonic
    unix: Callable[[], float] = time.time

    async def give(
        self,
        verb: str,
        model_id: str | None,
        *,
        wait: bool,
        timeout_s: float,
        gpu: str | None = None,
        for_s: float = 0.0,
        node: str | None = None,
        replicas: int | None = None,
        until_unix_s: float | None = None,
        moves: int | None = None,
        dry_run: bool = False,
    ) -> CommandReply:
        """Raises what ``refusal`` makes of a refused order, ControllerUnavailable, OrderPending, StoreUnavailable."""
        command = Command(
            id=uuid.uuid4().hex,
            verb=verb,
            model_id=model_id,
            wait=wait,
            gpu=gpu,
            for_s=for_s,
            node=node,
            replicas=replicas,
            until_unix_s=until_unix_s,
            moves=moves,
            dry_run=dry_run,
        )
        order = encode(command)
        await self._push(command, order)
        reply = await self._reply(command, timeout_s)
        if reply is None:
            raise await self._unanswered(command, order, timeout_s)
        if not reply.ok:
            if is_act(command):
                await self._tell(act_record(command, f"{act_of(command)}.refused", None, reply.message, self.unix()))
            raise refusal(reply, model_id)
        return reply

    async def _push(self, command: Command, order: bytes) -> None:
        """With the audit log's word of it: no act without."""
        if not is_act(command):
            async with asking_redis():
                await self.redis.rpush(self.keys.commands, order)
            return
        async with asking_redis():
            fleet = await load_async(self.redis, self.keys.fleet, FleetRecord)
            act = act_record(command, act_of(command), stand_of(command, fleet), asked_of(command), self.unix())
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.xadd(self.keys.audit, {FIELD: encode(act)}, maxlen=AUDIT_MAX, approximate=True)
                pipe.rpush(self.keys.commands, order)
                await pipe.execute()

    async def _tell(self, act: AuditRecord) -> None:
        async with asking_redis():
            await self.redis.xadd(self.keys.audit, {FIELD: encode(act)}, maxlen=AUDIT_MAX, approximate=True)

    async def _reply(self, command: Command, timeout_s: float) -> CommandReply | None:
        key = self.keys.reply(command.id)
        deadline_s = self.monotonic() + timeout_s
        while (left_s := deadline_s - self.monotonic()) > 0:
            wait_s = max(0.01, min(left_s, LOOK_EVERY_S))  # 0 would mean for ever
            async with asking_redis(wait_s + 2):
                popped = await self.redis.blpop([key], timeout=wait_s)
            if popped is not None:
                return decode(popped[1], CommandReply, key)
        return None

    async def _unanswered(self, command: Command, order: bytes, timeout_s: float) -> GatewayError:
        async with asking_redis():
            withdrawn = await self.redis.lrem(self.keys.commands, 1, order.decode())
        if withdrawn and is_act(command):
            await self._tell(act_record(command, f"{act_of(command)}.withdrawn", None, None, self.unix()))
        if withdrawn:
            return ControllerUnavailable(
                f"No controller took the order '{command.verb}' within {timeout_s:g} s; it was withdrawn."
            )
        return OrderPending(
            f"The order '{command.verb}' was taken but is not done after {timeout_s:g} s; look at its state."
        )


def refusal(reply: CommandReply, model_id: str | None) -> GatewayError:
    """A refused order as an error with the status that fits its code."""
    match reply.code:
        case "model_not_found":
            return ModelNotFound(model_id or "", f"{reply.message}.")
        case "gpu_not_found" | "node_not_found":
            return NotFound(f"{reply.message}.", code=reply.code)
        case "unknown_command" | "invalid_configuration" | "invalid_request":
            return InvalidRequest(reply.message, code=reply.code)
        case "insufficient_gpu_memory" | "model_start_failed":
            return Unavailable(reply.message, param="model", code=reply.code)
        case _:
            return Conflict(reply.message, code=reply.code)
