"""A worker with nothing in it, for tests of the master: says who it is, line by line; ends when it is asked to.

``python -m tests.gateway.tiny_worker [--fail-once FILE] [--refuse] [--ignore] --fd K --line L --worker I ...``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

from gateway.seat import Seat
from gateway.siblings import Siblings

REFUSED = 3


def say(word: str) -> None:
    """In one piece: several workers write to the same file."""
    os.write(sys.stdout.fileno(), f"{word} {os.getpid()}\n".encode())


async def serve(given: argparse.Namespace) -> None:
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    seat = Seat(given.line, Siblings(given.worker, given.workers, given.peers), None)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError), contextlib.closing(writer):
            while await reader.readline():
                writer.write(f"{given.worker} {os.getpid()}\n".encode())

    server = await asyncio.start_server(answer, sock=socket.socket(fileno=given.fd))
    seat.take()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: say("hangup"))
    await asked.wait()
    server.close()
    say("left")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fail-once", type=Path)
    parser.add_argument("--refuse", action="store_true")
    parser.add_argument("--fd", type=int)
    parser.add_argument("--line", type=int)
    parser.add_argument("--worker", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--peers", type=Path)
    given = parser.parse_args()
    if given.refuse:
        return REFUSED
    if given.fail_once is not None and given.fail_once.exists():
        given.fail_once.unlink()
        return 1
    asyncio.run(serve(given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
