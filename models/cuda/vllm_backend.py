"""The sleep-mode backend that vLLM is given by name. vLLM imports this module itself, when an engine first sleeps."""

from __future__ import annotations

from typing import Any

from vllm.device_allocator import cumem
from vllm.device_allocator.sleep_mode_backend import SleepModeBackend

from models.cuda.cumem_sleep import AllocationSleep, Mapper
from models.cuda.pinned import PinnedPool
from models.runtimes.protocol import EngineError


class PinnedUnmapBackend(SleepModeBackend):
    """Level 1 keeps weights in the pinned pool and only unmaps; level 2 discards them, as vLLM's own backend does.

    vLLM makes one for each process, without arguments.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sleep: AllocationSleep | None = None

    @property
    def sleep(self) -> AllocationSleep:
        if self._sleep is None:
            self._sleep = _of_this_process()
        return self._sleep

    def prepare(self) -> None:
        """Copy the weights to the host while the engine serves. Raises EngineError."""
        self.sleep.prepare()

    def suspend(self, level: int = 1) -> None:
        self.sleep.suspend(level)
        self._state = "SUSPENDED"

    def resume(self, tags: list[str] | None = None) -> None:
        """Raises EngineError with fault "memory" when the device has no room; it is suspended as before then."""
        self._state = "RESUMING"
        try:
            self.sleep.resume(tags)
        except RuntimeError as problem:
            self._state = "SUSPENDED"
            raise EngineError(
                f"the device has no room for the engine's weights and cache ({problem})", "memory"
            ) from problem
        self._state = "RUNNING"

    def discard(self, tags: tuple[str, ...]) -> None:
        cumem.CuMemAllocator.get_instance().discard(tags)
        self.sleep.discarded(tags)
        self._state = "SUSPENDED"

    @classmethod
    def is_supported(cls) -> bool:
        return bool(cumem.cumem_available)

    @classmethod
    def preserves_communicators(cls) -> bool:
        return True  # their memory is not among what is unmapped


def _of_this_process() -> AllocationSleep:
    from models.cuda.torch_calls import TorchCalls

    allocator: Any = cumem.CuMemAllocator.get_instance()
    mapper = Mapper(cumem.create_and_map, cumem.unmap_and_release)
    calls = TorchCalls()
    return AllocationSleep(allocator.pointer_to_data, mapper, calls, PinnedPool(calls))
