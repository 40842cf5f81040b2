"""How a vLLM engine on a GPU is put to sleep, by its own mode or by ours, behind one interface.

Everything of vLLM's that this package touches is named in ``NAMES``, with a test for each.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import Any

from models.runtimes.protocol import EngineError

BACKEND = "roundhouse"  # as vLLM knows ours
OWN_BACKEND = "cumem"  # as vLLM knows its own

# module, then what is reached in it; a name in brackets is a field or an argument.
NAMES: tuple[tuple[str, str], ...] = (
    ("vllm.device_allocator", "AllocationData(handle)"),
    ("vllm.device_allocator", "AllocationData(tag)"),
    ("vllm.device_allocator", "AllocationData(is_asleep)"),
    ("vllm.device_allocator", "DEFERRABLE_TAGS"),
    ("vllm.device_allocator.cumem", "cumem_available"),
    ("vllm.device_allocator.cumem", "create_and_map(allocation_handle)"),
    ("vllm.device_allocator.cumem", "unmap_and_release(allocation_handle)"),
    ("vllm.device_allocator.cumem", "CuMemAllocator.get_instance"),
    ("vllm.device_allocator.cumem", "CuMemAllocator.discard(tags)"),
    ("vllm.device_allocator.sleep_mode_backend", "SleepModeBackend.suspend(level)"),
    ("vllm.device_allocator.sleep_mode_backend", "SleepModeBackend.resume(tags)"),
    ("vllm.device_allocator.sleep_mode_backend", "SleepModeBackend.discard(tags)"),
    ("vllm.device_allocator.sleep_mode_backend", "SleepModeBackend.is_supported"),
    ("vllm.device_allocator.sleep_mode_backend", "SleepModeBackend.preserves_communicators"),
    ("vllm.device_allocator.sleep_mode_backend", "SleepModeBackendFactory.register_backend(class_name)"),
    ("vllm.device_allocator.sleep_mode_backend", "SleepModeBackendFactory.get_backend_class(name)"),
    ("vllm.config.model", "ModelConfig(sleep_mode_backend)"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.sleep(level)"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.wake_up(tags)"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.collective_rpc(method)"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.reset_prefix_cache"),
)


def missing_names(find: Callable[[str], Any] = importlib.import_module) -> list[str]:
    """Of ``NAMES``, what this vLLM does not have."""
    return [f"{module}.{path}" for module, path in NAMES if not has_name(module, path, find)]


def has_name(module: str, path: str, find: Callable[[str], Any] = importlib.import_module) -> bool:
    import dataclasses
    import inspect

    path, _, argument = path.rstrip(")").partition("(")
    try:
        found: Any = find(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError):
        return False
    if not argument:
        return True
    if dataclasses.is_dataclass(found):
        return argument in {field.name for field in dataclasses.fields(found)}
    return argument in inspect.signature(found).parameters


def choose_backend(model_config: Any, *, own: bool) -> None:
    """Make vLLM use its own sleep mode or ours; before its engine is made. Raises EngineError.

    vLLM has the field but, in 0.32, no argument for it.
    """
    if own:
        model_config.sleep_mode_backend = OWN_BACKEND
        return
    missing = missing_names()
    if missing:
        raise EngineError(f"sleep: unmap does not fit this vLLM, which has no {missing[0]}: choose sleep: vllm")
    from vllm.device_allocator.sleep_mode_backend import SleepModeBackendFactory

    try:
        SleepModeBackendFactory.get_backend_class(BACKEND)
    except ValueError:
        SleepModeBackendFactory.register_backend(BACKEND, "models.cuda.vllm_backend", "PinnedUnmapBackend")
    model_config.sleep_mode_backend = BACKEND


class VllmSleep:
    """``llm``: an AsyncLLM. ``level`` 1 keeps the weights on the host, 2 discards them and loads them again.

    ``worker``: its one worker, whose backend can copy weights ahead of the first sleep; None where it is vLLM's own.
    """

    def __init__(self, llm: Any, level: int = 1, worker: Any = None) -> None:
        self.name = "discard" if level > 1 else "unmap" if worker is not None else "vllm"
        self._llm = llm
        self._level = level
        self._worker = worker
        self.timings_s: dict[str, float] = {}

    @property
    def host_bytes(self) -> int:
        """Pinned for sleeping; vLLM does not say how much its own mode has."""
        return int(self._worker.sleep_mode_backend.sleep.host_bytes) if self._worker is not None else 0

    async def prepare(self) -> None:
        """Beside serving. Raises EngineError."""
        if self._worker is not None:
            await asyncio.to_thread(self._worker.sleep_mode_backend.prepare)

    async def suspend(self) -> None:
        """Raises EngineError."""
        await self._llm.sleep(level=self._level)
        self._note()

    async def resume(self) -> None:
        """Raises EngineError with fault "memory" when the device has no room."""
        try:
            if self._level == 1:
                await self._llm.wake_up()
            else:
                await self._llm.wake_up(tags=["weights"])
                await self._llm.collective_rpc("reload_weights")
                await self._llm.wake_up(tags=["kv_cache"])
                await self._llm.reset_prefix_cache()
        except RuntimeError as problem:
            if "out of memory" in str(problem):
                raise EngineError("the device has no room for the engine's weights and cache", "memory") from problem
            raise
        self._note()

    async def close(self) -> None:
        """Nothing: the process ends."""

    def _note(self) -> None:
        if self._worker is not None:
            self.timings_s = dict(self._worker.sleep_mode_backend.sleep.timings_s)
