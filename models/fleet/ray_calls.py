"""Awaiting calls to Ray actors: what can go wrong with them, in the words of the fleet."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from models.fleet.protocol import StartFailed, Superseded
from models.runtimes.protocol import EngineError

log = logging.getLogger("roundhouse.fleet")


class ActorGone(StartFailed):
    """The actor cannot be reached; its node, and the engines there, may well be alive."""


class NodeGivenUp(StartFailed):
    """Its node was lost; nobody waits for it any more."""


class CallBroken(StartFailed):
    """The call came to nothing for a reason of its own: it says nothing of the engine that it was about."""


async def ask(call: Any) -> Any:
    """Await a call. Engine errors become StartFailed, unreachable actors ActorGone, other trouble CallBroken.

    Raises Superseded.
    """
    try:
        return await call
    except RayTaskError as failure:
        cause = failure.cause if isinstance(failure.cause, Exception) else failure
        if isinstance(cause, EngineError):
            raise StartFailed(str(cause), cause.fault) from cause
        if isinstance(cause, Superseded):
            raise Superseded(cause.epoch) from cause
        log.error("actor call failed", exc_info=failure)
        raise CallBroken("an internal error on the node; see the controller's log") from failure
    except RayActorError as gone:
        raise ActorGone(_why(gone)) from gone
    except RayError as failure:
        raise CallBroken(f"Ray could not carry out the call ({type(failure).__name__})") from failure


def _why(gone: RayActorError) -> str:
    if isinstance(gone, ActorDiedError) and gone.actor_init_failed:
        lines = [line.strip() for line in str(gone).splitlines() if line.strip()]
        return f"its actor could not start: {lines[-1]}"
    return "the Ray actor is gone"


async def ask_until(call: Any, ended: asyncio.Event) -> Any:
    """As ``ask``; ActorGone once ``ended`` is set, whatever becomes of the call."""
    answering = asyncio.ensure_future(ask(call))
    ending = asyncio.ensure_future(ended.wait())
    try:
        await asyncio.wait((answering, ending), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ActorGone("its node was given up or has come back as another one")
        return answering.result()
    finally:
        answering.cancel()
        ending.cancel()
