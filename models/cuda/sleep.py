"""How an engine on a GPU sleeps: one small Protocol, and the functions that make what a card has chosen.

``engine_args.sleep`` of a card:

=========== =================================================== ==================== =========================
choice      asleep                                              wakes by             stays on the GPU
=========== =================================================== ==================== =========================
unmap       memory unmapped, weights in pinned host memory      one copy             context, libraries, graphs
checkpoint  as ``unmap``, then the driver takes the rest too    restore, one copy    nothing
vllm        vLLM's own mode, level 1 (vLLM only)                a copy an allocation context, libraries, graphs
discard     vLLM's own mode, level 2: no host memory (vLLM)     loading the weights  context, libraries, graphs
=========== =================================================== ==================== =========================
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from models.runtimes.protocol import EngineError

if TYPE_CHECKING:
    from models.cuda.checkpoint import CheckpointTier
    from models.cuda.module_weights import GpuPlace
    from models.runtimes.torch.device_weights import DeviceWeights

Choice = Literal["unmap", "checkpoint", "vllm", "discard"]
ARGUMENT = "sleep"
DEFAULT: Choice = "unmap"
VLLM_ONLY: tuple[Choice, ...] = ("vllm", "discard")

InThread = Callable[[Callable[[], None]], Awaitable[None]]


class SleepBackend(Protocol):
    """Gives an engine's device memory back and takes it again. Requests must have drained; one change at a time."""

    @property
    def name(self) -> str: ...

    @property
    def timings_s(self) -> Mapping[str, float]:
        """Phases of the latest change."""

    @property
    def host_bytes(self) -> int:
        """Host memory that it holds for this, pinned or the driver's."""

    async def prepare(self) -> None:
        """Beside serving, what the first sleep would otherwise take its time for. Raises EngineError."""

    async def suspend(self) -> None:
        """Raises EngineError, after which the engine runs as before."""

    async def resume(self) -> None:
        """Raises EngineError (fault "memory" without room on the device), after which it is asleep as before."""

    async def close(self) -> None: ...


def choice_of(engine_args: Mapping[str, Any], runtime: str) -> Choice:
    """What the card says, or the default. Raises EngineError naming the field."""
    given = engine_args.get(ARGUMENT, DEFAULT)
    offered = [choice for choice in get_args(Choice) if runtime == "vllm" or choice not in VLLM_ONLY]
    if given not in offered:
        raise EngineError(f"engine_args.{ARGUMENT} must be one of {', '.join(offered)}, not {given!r}")
    chosen: Choice = given
    return chosen


def new_place(host_limit_bytes: int = 0) -> GpuPlace:
    """For the weights of one torch engine. Starts CUDA; for the thread that computes.

    ``host_limit_bytes``: what the ledger gives it of host memory, 0 for no limit. Raises RuntimeError where CUDA
    cannot be started.
    """
    from models.cuda.module_weights import GpuPlace
    from models.cuda.pinned import PinnedPool
    from models.cuda.torch_calls import TorchCalls

    calls = TorchCalls()
    _ask_the_driver_often()
    return GpuPlace(calls, PinnedPool(calls, host_limit_bytes))


def for_torch(weights: DeviceWeights, place: GpuPlace, choice: Choice, in_thread: InThread) -> SleepBackend:
    """Of a torch engine that has its process for itself."""
    backend = ModuleSleep(weights, place, in_thread)
    return Checkpointed(backend, _tier()) if choice == "checkpoint" else backend


def for_vllm(llm: Any, choice: Choice, worker: Any) -> SleepBackend:
    """Of a vLLM engine whose config ``vllm_sleep.choose_backend`` has seen. ``worker``: its one GPU worker."""
    from models.cuda.vllm_sleep import VllmSleep

    _ask_the_driver_often()
    match choice:
        case "vllm":
            return VllmSleep(llm)
        case "discard":
            return VllmSleep(llm, level=2)
        case "checkpoint":
            return Checkpointed(VllmSleep(llm, worker=worker), _tier())
        case "unmap":
            return VllmSleep(llm, worker=worker)


class ModuleSleep:
    """The torch runtime's: everything happens in the thread that computes."""

    name = "unmap"

    def __init__(self, weights: DeviceWeights, place: GpuPlace, in_thread: InThread) -> None:
        self._weights = weights
        self._place = place
        self._in_thread = in_thread

    @property
    def timings_s(self) -> Mapping[str, float]:
        return self._place.timings_s

    @property
    def host_bytes(self) -> int:
        return self._place.host_bytes

    async def prepare(self) -> None:
        """Nothing: what was loaded from files is on the host already."""

    async def suspend(self) -> None:
        await self._in_thread(self._weights.to_host)

    async def resume(self) -> None:
        import torch

        try:
            await self._in_thread(self._weights.to_device)
        except torch.OutOfMemoryError as problem:
            raise EngineError("the device has no room for the weights", "memory") from problem

    async def close(self) -> None:
        """Nothing: the process ends."""


class Checkpointed:
    """Another way to sleep, and then no trace on the device."""

    name = "checkpoint"

    def __init__(self, inner: SleepBackend, tier: CheckpointTier) -> None:
        self._inner = inner
        self._tier = tier

    @property
    def timings_s(self) -> Mapping[str, float]:
        return {**self._inner.timings_s, **self._tier.timings_s}

    @property
    def host_bytes(self) -> int:
        return self._inner.host_bytes + self._tier.host_bytes

    async def prepare(self) -> None:
        await self._inner.prepare()

    async def suspend(self) -> None:
        """Weights first: the driver would otherwise copy them, and the whole KV cache, a second time."""
        await self._inner.suspend()
        try:
            await self._tier.suspend()
        except EngineError:
            await self._inner.resume()
            raise

    async def resume(self) -> None:
        await self._tier.resume()
        try:
            await self._inner.resume()
        except EngineError:
            await self._tier.suspend()
            raise

    async def close(self) -> None:
        await self._tier.close()
        await self._inner.close()


def _ask_the_driver_often() -> None:
    """An engine is asked what it holds with each status."""
    from models.nvml import NvmlUnavailable, keep_open

    with contextlib.suppress(NvmlUnavailable):
        keep_open()


def _tier() -> CheckpointTier:
    from models.cuda.checkpoint import CheckpointTier, Helper
    from models.nvml import process_bytes

    return CheckpointTier(Helper(), lambda: process_bytes(os.getpid()))
