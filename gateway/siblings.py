"""How the workers of one gateway know of each other: each answers short questions on a unix socket in one folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

ASK_TIMEOUT_S = 1.0
LONGEST_QUESTION_BYTES = 64
LARGEST_ANSWER_BYTES = 64 << 20


def resident_bytes() -> int:
    """RAM that this process has, as /proc tells of it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Siblings:
    """This worker, number ``index`` of ``count``. Without a ``folder`` it is alone, and there is nobody to ask.

    ``answers``: question -> what this worker answers; filled in where things are wired together. Questions are one
    word. The folder is private to this user: whoever can ask may know.
    """

    def __init__(self, index: int = 0, count: int = 1, folder: Path | None = None) -> None:
        self.index = index
        self.count = count
        self.folder = folder
        self.answers: dict[str, Callable[[], bytes]] = {}
        self._server: asyncio.Server | None = None

    @property
    def alone(self) -> bool:
        return self.folder is None or self.count < 2

    async def open(self) -> None:
        """Answer from now on. Raises OSError."""
        if self.alone:
            return
        path = self._path(self.index)
        path.unlink(missing_ok=True)  # of a predecessor that was killed
        self._server = await asyncio.start_unix_server(self._answer, path, limit=LONGEST_QUESTION_BYTES)
        path.chmod(0o600)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path(self.index).unlink(missing_ok=True)
            self._server = None

    async def ask(self, question: str, timeout_s: float = ASK_TIMEOUT_S) -> dict[int, bytes]:
        """What the others answer, by their numbers. Those that are gone or silent are not in it."""
        if self.alone:
            return {}
        others = [index for index in range(self.count) if index != self.index]
        answers = await asyncio.gather(*(self._ask(index, question, timeout_s) for index in others))
        return {index: answer for index, answer in zip(others, answers, strict=True) if answer is not None}

    def _path(self, index: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{index}.sock"

    async def _ask(self, index: int, question: str, timeout_s: float) -> bytes | None:
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(self._path(index), limit=1 << 20)
                with contextlib.closing(writer):
                    writer.write(f"{question}\n".encode())
                    length = int(await reader.readline())
                    return await reader.readexactly(min(length, LARGEST_ANSWER_BYTES))
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(ASK_TIMEOUT_S):
                make = self.answers.get((await reader.readline()).decode().strip())
                if make is None:
                    return
                answer = make()
                writer.write(b"%d\n%b" % (len(answer), answer))
                await writer.drain()
