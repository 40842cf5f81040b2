"""``python -m loadtests.tenants.caller``: one tenant's callers, in a process of their own. ASK comes on stdin, as JSON.

They call at random, at a rate that does not depend on how they are served; latency is from when a call was due. Prints
what they saw, as a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from loadtests.tenants.http import Broken, read_message, request

MODEL = "m"
# Of the mean: as evenly spread as this, the longest is not so long that waiting would not be seen beside it.
SHORTEST, LONGEST = 0.5, 1.5
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Ask:
    """``warmup_s``: uncounted, before ``seconds``. ``work_s``: the mean of what the engine is to work on each."""

    port: int
    key: str = field(repr=False)
    per_second: float
    seconds: float
    work_s: float
    seed: int
    warmup_s: float = 1.0


@dataclass(slots=True)
class Heard:
    """``took_ms``: of those that were answered with 200. ``statuses``: of all, 0 for a broken connection."""

    took_ms: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    late_ms: float = 0.0  # the most that a call began after it was due


def due_s(ask: Ask) -> Iterator[tuple[float, float]]:
    """(seconds from the beginning, how long the engine is to work): the same ones for the same seed."""
    rng, at_s = random.Random(ask.seed), 0.0
    while (at_s := at_s + rng.expovariate(ask.per_second)) < ask.warmup_s + ask.seconds:
        yield at_s, ask.work_s * rng.uniform(SHORTEST, LONGEST)


async def call(ask: Ask) -> Heard:
    heard, statuses = Heard(), Counter[int]()
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    tasks = set[asyncio.Task[None]]()
    began_s = time.monotonic()

    async def one(at_s: float, work_s: float) -> None:
        body = json.dumps({"model": MODEL, "max_tokens": 30, "messages": [], "work_s": round(work_s, 6)}).encode()
        status = 0
        try:
            pair = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", ask.port)
            pair[1].write(request(body, ask.key))
            line, _ = await asyncio.wait_for(read_message(pair[0]), PATIENCE_S)
            status = int(line.split()[1])
            idle.append(pair)
        except (EOFError, Broken, OSError):
            pass
        if at_s >= ask.warmup_s:
            statuses[status] += 1
            if status == 200:
                heard.took_ms.append((time.monotonic() - began_s - at_s) * 1e3)

    for at_s, work_s in due_s(ask):
        await asyncio.sleep(began_s + at_s - time.monotonic())
        heard.late_ms = max(heard.late_ms, (time.monotonic() - began_s - at_s) * 1e3)
        task = asyncio.create_task(one(at_s, work_s))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for _, writer in idle:
        writer.close()
    heard.statuses = dict(sorted(statuses.items()))
    return heard


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(call(Ask(**json.load(sys.stdin)))))))
