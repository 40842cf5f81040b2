"""The controller's ears: demand reports, operators' commands, and changes of the configuration file.

Redis may go away, fall silent and come back at any time: whatever is asked of it ends in time, is complained of once,
and is tried again. No order is lost on the way: one that is taken stays in a list of its own until it is answered, and
whoever takes office, or hears again, looks there first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from models.catalog.errors import ConfigError
from models.catalog.watch import Changed, ConfigWatcher, Rejected
from models.control.fence import in_time
from models.control.messages import CatalogChanged, CatalogRejected, Message, Ordered, Reported
from models.control.store import RedisControlStore
from models.store.keys import Keys
from models.store.records import Command, CommandReply

log = logging.getLogger("roundhouse.control")
Post = Callable[[Message], None]
RETRY_S = 0.2
SWEEP_S = 1.0
WATCH_S = 1.0
POP_S = 1.0
_DOWN = (RedisError, OSError)


async def listen_demand(redis: Redis, keys: Keys, store: RedisControlStore, post: Post) -> None:
    """Each announcement is a worker's report; a sweep catches what was announced unheard."""
    hearing = _Hearing("demand")
    while True:
        try:
            async with redis.pubsub() as channel:
                async with in_time():
                    await channel.subscribe(keys.demand_channel)
                swept_s = float("-inf")
                while True:
                    if time.monotonic() - swept_s >= SWEEP_S:
                        swept_s = time.monotonic()
                        for report in await store.all_demand():
                            post(Reported(report))
                        hearing.works()
                    message = await channel.get_message(ignore_subscribe_messages=True, timeout=SWEEP_S)
                    if message is not None:
                        announced = store.announced(message["data"])
                        if announced is not None:
                            post(Reported(announced))
        except _DOWN as problem:
            await hearing.fails(problem)


async def listen_commands(
    redis: Redis, keys: Keys, store: RedisControlStore, watcher: ConfigWatcher, post: Post
) -> None:
    hearing = _Hearing("commands")
    while True:
        try:
            for command in await store.untold_commands():
                await _tell(command, store, watcher, post)
            hearing.works()
            while True:
                taken = await store.take_command(POP_S)
                if taken is not None:
                    await _tell(taken, store, watcher, post)
        except _DOWN as problem:
            await hearing.fails(problem)


async def _tell(command: Command, store: RedisControlStore, watcher: ConfigWatcher, post: Post) -> None:
    if command.verb == "reload":
        try:
            await store.reply(_reload(command, watcher, post))
        except _DOWN:
            store.untell(command)
            raise
    else:
        post(Ordered(command))


class _Hearing:
    """Says once when something cannot be read, and once when it can again."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._problem = ""

    def works(self) -> None:
        if self._problem:
            log.info("%s can be read again", self._what)
        self._problem = ""

    async def fails(self, problem: Exception) -> None:
        text = f"{type(problem).__name__}: {problem}"
        if text != self._problem:
            log.warning("%s cannot be read: %s", self._what, text)
        self._problem = text
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
