"""The tier without residue: the driver moves a process's whole CUDA state to host memory, context included.

What a sleeping engine keeps on the GPU otherwise (context, libraries' workspaces, graphs: 1 to 1.75 GiB each as
published) is what limits how many can sleep beside each other. Needs driver 570 (CUDA 12.8) or newer.

States, as the driver names them: running -> (lock) -> locked -> (checkpoint) -> checkpointed, and back by restore and
unlock. While it is not running, every CUDA call of the process blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable

import msgspec

from models.cuda.checkpoint_helper import HelperReply, HelperRequest, Operation
from models.runtimes.protocol import EngineError

LOCK_TIMEOUT_S = 10.0
MOVE_TIMEOUT_S = 120.0  # of the bytes themselves, either way
RESIDUE_PATIENCE_S = 2.0
RESIDUE_PERIOD_S = 0.05
LINE_LIMIT_BYTES = 1 << 16

log = logging.getLogger("roundhouse.engine")

Pause = Callable[[float], Awaitable[None]]


class StateLost(Exception):
    """The engine can neither compute nor be brought back: it must end. Not an EngineError, which it would survive."""


class Helper:
    """The process beside the engine, started with the first order and kept for the wake, which cannot wait for it."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None

    async def do(self, op: Operation, pid: int, timeout_s: float, lock_s: float = 0.0) -> HelperReply:
        """Raises EngineError when no answer comes; the helper is then gone and the next order starts another."""
        process = self._process or await self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        request = HelperRequest(op=op, pid=pid, timeout_ms=max(1, round(lock_s * 1000)) if lock_s else 0)
        try:
            async with asyncio.timeout(timeout_s):
                process.stdin.write(msgspec.json.encode(request) + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readline()
        except TimeoutError as problem:
            await self.close()
            raise EngineError(
                f"the driver did not {op} the engine's GPU state within {timeout_s:g} s", "hang"
            ) from problem
        except asyncio.CancelledError:
            await self.close()  # its answer would be taken for that to the next order
            raise
        except OSError:
            line = b""
        if not line:
            await self.close()
            raise EngineError(f"the process that was to {op} the engine's GPU state has ended: see the engine's log")
        return msgspec.json.decode(line, type=HelperReply)

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "models.cuda.checkpoint_helper",
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT_BYTES,
        )
        return self._process


class CheckpointTier:
    """Takes the process ``pid`` off the GPU and back.

    ``device_bytes``: what the device's driver says that the process holds there, None when it cannot tell.
    """

    def __init__(
        self,
        helper: Helper,
        device_bytes: Callable[[], int | None],
        pid: int | None = None,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._helper = helper
        self._device_bytes = device_bytes
        self._pid = pid or os.getpid()
        self._lock_timeout_s = lock_timeout_s
        self._pause = pause
        self._host_bytes = 0
        self._away = False
        self.timings_s: dict[str, float] = {}

    @property
    def host_bytes(self) -> int:
        """What the driver holds for it in host memory: as much as it held on the GPU. 0 while it runs."""
        return self._host_bytes

    async def suspend(self) -> None:
        """Nothing of the process is on the GPU when this returns.

        Raises EngineError, after which it runs as before, and StateLost.
        """
        held_bytes = self._device_bytes()
        if not held_bytes:
            log.warning("the device's driver does not tell what this process holds: that nothing stays is not checked")
        await self._must("lock", self._lock_timeout_s + 5.0, self._lock_timeout_s)
        try:
            await self._must("checkpoint", MOVE_TIMEOUT_S)
        except EngineError:
            await self._run_on()
            raise
        self._away = True
        self._host_bytes = held_bytes or 0
        residue_bytes = await self._residue()
        if residue_bytes:
            # The ledger counts on none; better awake and told than asleep and wrong.
            await self.resume()
            raise EngineError(
                f"{residue_bytes >> 20} MiB stayed on the GPU after the engine was checkpointed", "memory"
            )

    async def resume(self) -> None:
        """Raises EngineError (fault "memory" without room on the GPU), after which it is checkpointed as before, and
        StateLost."""
        if not self._away:
            return
        try:
            await self._must("restore", MOVE_TIMEOUT_S)
        except EngineError:
            state = await self._state()
            if state == "checkpointed":
                raise
            raise StateLost(f"the engine's GPU state is {state} after a failed restore") from None
        self._away = False
        await self._run_on()
        self._host_bytes = 0

    async def close(self) -> None:
        await self._helper.close()

    async def _run_on(self) -> None:
        """Unlock it; it may have been unlocked already. Raises StateLost."""
        state = await self._state()
        if state == "locked":
            reply = await self._helper.do("unlock", self._pid, self._lock_timeout_s)
            state = reply.state if reply.ok else f"locked ({reply.error})"
        if state != "running":
            raise StateLost(f"the engine's GPU state is {state}: it must be started anew")

    async def _state(self) -> str:
        try:
            reply = await self._helper.do("state", self._pid, self._lock_timeout_s)
        except EngineError as problem:
            raise StateLost(f"nobody can tell the engine's GPU state: {problem}") from problem
        return reply.state or f"unknown ({reply.error})"

    async def _must(self, op: Operation, timeout_s: float, lock_s: float = 0.0) -> None:
        reply = await self._helper.do(op, self._pid, timeout_s, lock_s)
        self.timings_s[op] = reply.took_s
        if reply.ok:
            return
        log.warning("%s: %s", op, reply.error)
        match reply.kind:
            case "unsupported":
                raise EngineError(
                    f"sleep: checkpoint does not work on this machine ({reply.error}); it needs NVIDIA driver 570 or"
                    " newer and the package cuda-core: choose sleep: unmap"
                )
            case "busy":
                raise EngineError(f"the engine's GPU work did not end within {self._lock_timeout_s:g} s", "hang")
            case "memory":
                raise EngineError("the device has no room for the engine's GPU state", "memory")
            case _:
                raise EngineError(f"the driver could not {op} the engine's GPU state: {reply.error}")

    async def _residue(self) -> int:
        """What is left once the driver has had a moment to settle its books; 0 when nobody can tell."""
        left = self._device_bytes() or 0
        for _ in range(round(RESIDUE_PATIENCE_S / RESIDUE_PERIOD_S)):
            if not left:
                break
            await self._pause(RESIDUE_PERIOD_S)
            left = self._device_bytes() or 0
        return left
