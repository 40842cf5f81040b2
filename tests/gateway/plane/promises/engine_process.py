"""``python -m tests.gateway.plane.promises.engine_process SOCKET``: an engine to be killed, stopped and started again.

It does what a request's ``how`` asks: ``work_s`` before the first byte, ``events`` of a stream, ``every_s`` between
them, ``die`` on the spot. Whoever connects to SOCKET.stats gets what it was asked so far, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from tests.gateway.plane.protocol.raw_engine import PLAIN, STREAM_HEAD, Asked, Link, RawEngine, event, whole

DONE = b"data: [DONE]\n\n"


async def work(link: Link, asked: Asked) -> None:
    how = asked.how
    await asyncio.sleep(how.get("work_s", 0.0))
    if how.get("die"):
        link.die()
    elif not asked.json.get("stream"):
        await link.say(whole(PLAIN))
    else:
        await link.say(STREAM_HEAD)
        told = (asked.json.get("stream_options") or {}).get("continuous_usage_stats")
        for number in range(how.get("events", 5)):
            usage = {"prompt_tokens": 2, "total_tokens": 3 + number, "completion_tokens": 1 + number}
            one = event(f" {number}", **({"usage": usage} if told else {}))
            await link.say(b"%x\r\n%b\r\n" % (len(one), one))
            await asyncio.sleep(how.get("every_s", 0.0))
        await link.say(b"%x\r\n%b\r\n0\r\n\r\n" % (len(DONE), DONE))


async def main(socket: Path) -> None:
    engine = RawEngine(socket, play=work)

    async def stats(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ids = Counter(asked.header("x-request-id") for asked in engine.asked)
        writer.write(json.dumps({"asked": len(engine.asked), "answering": engine.answering, "by_id": ids}).encode())
        writer.close()

    socket.unlink(missing_ok=True)
    stats_socket = socket.with_name(socket.name + ".stats")
    stats_socket.unlink(missing_ok=True)
    await asyncio.start_unix_server(stats, str(stats_socket))
    await engine.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
