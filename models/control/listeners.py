"""The controller's ears: demand reports, operators' commands, and changes of the configuration file."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from models.catalog.errors import ConfigError
from models.catalog.watch import Changed, ConfigWatcher, Rejected
from models.control.messages import CatalogChanged, CatalogRejected, Message, Ordered, Reported
from models.control.store import RedisControlStore
from models.store.keys import Keys
from models.store.records import Command, CommandReply

log = logging.getLogger("roundhouse.control")
Post = Callable[[Message], None]
RETRY_S = 0.5
SWEEP_S = 1.0
WATCH_S = 1.0
POP_S = 5


async def listen_demand(redis: Redis, keys: Keys, store: RedisControlStore, post: Post) -> None:
    """Each announcement names a worker whose report is then read; a sweep catches what was announced unheard."""
    while True:
        try:
            async with redis.pubsub() as channel:
                await channel.subscribe(keys.demand_channel)
                swept_s = 0.0
                while True:
                    message = await channel.get_message(ignore_subscribe_messages=True, timeout=SWEEP_S)
                    if message is not None:
                        report = await store.demand(message["data"].decode())
                        if report is not None:
                            post(Reported(report))
                    if time.monotonic() - swept_s >= SWEEP_S:
                        swept_s = time.monotonic()
                        for report in await store.all_demand():
                            post(Reported(report))
        except (RedisError, OSError, msgspec.MsgspecError) as problem:
            log.warning("demand cannot be read: %s", problem)
            await asyncio.sleep(RETRY_S)


async def listen_commands(
    redis: Redis, keys: Keys, store: RedisControlStore, watcher: ConfigWatcher, post: Post
) -> None:
    while True:
        try:
            popped = await redis.blpop([keys.commands], timeout=POP_S)
            if popped is None:
                continue
            command = msgspec.json.decode(popped[1], type=Command)
            if command.verb == "reload":
                await store.reply(_reload(command, watcher, post))
            else:
                post(Ordered(command))
        except (RedisError, OSError, msgspec.MsgspecError) as problem:
            log.warning("commands cannot be read: %s", problem)
            await asyncio.sleep(RETRY_S)


async def watch_config(watcher: ConfigWatcher, post: Post) -> None:
    while True:
        await asyncio.sleep(WATCH_S)
        _take(watcher.poll(time.monotonic()), post)


def _take(outcome: Changed | Rejected | None, post: Post) -> ConfigError | None:
    match outcome:
        case Changed(config):
            post(CatalogChanged(config))
        case Rejected(error):
            log.warning("the changed configuration is not taken: %s", error)
            post(CatalogRejected(str(error)))
            return error
    return None


def _reload(command: Command, watcher: ConfigWatcher, post: Post) -> CommandReply:
    outcome = watcher.read_now()
    error = _take(outcome, post)
    if error is not None:
        message = f"the configuration is not taken, the last good one stays in force:\n{error}"
        return CommandReply(id=command.id, ok=False, message=message, code="invalid_configuration")
    message = "the configuration means what is in force already" if outcome is None else "the configuration is read"
    return CommandReply(id=command.id, ok=True, message=message)
