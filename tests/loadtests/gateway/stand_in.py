"""A gateway for tests that is none: hands bytes on to an engine. ``stand_in.py PORT ENGINE_PORT HOW``.

``refuse``: answers everything with 503 instead; ``orphan``: leaves a process behind, whose number is in the file that
``ORPHAN_FILE`` names; else nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

REFUSAL = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"


async def hand_on(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            to.write(data)
            await to.drain()
    to.close()


async def both_ways(engine_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    engine_reader, engine_writer = await asyncio.open_connection("127.0.0.1", engine_port)
    await asyncio.gather(hand_on(reader, engine_writer), hand_on(engine_reader, writer))


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        writer.write(REFUSAL)
    writer.close()


def leave_a_process() -> None:
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    Path(os.environ["ORPHAN_FILE"]).write_text(str(left.pid))


async def main(port: int, engine_port: int, how: str) -> None:
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (refuse(reader, writer) if how == "refuse" else both_ways(engine_port, reader, writer))

    server = await asyncio.start_server(meet, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    given = sys.argv[3]
    if given == "orphan":
        leave_a_process()
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), given))
