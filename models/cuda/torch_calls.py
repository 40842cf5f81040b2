"""``CudaCalls`` on a real device: torch for memory, copies and events, the driver for pinning memory where it lies."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from models.cuda.calls import CannotRegister, Event, Stream
from models.cuda.driver import (
    ATTRIBUTE_HOST_REGISTER,
    ATTRIBUTE_READ_ONLY_HOST_REGISTER,
    REGISTER_PORTABLE,
    REGISTER_READ_ONLY,
    Driver,
    DriverError,
)


class TorchCalls:
    """Starts CUDA in this process, so never in a launcher. All calls belong to the thread that made it, or to others
    after ``enter``."""

    def __init__(self, device: str | torch.device = "cuda") -> None:
        """Raises RuntimeError, with torch's reason, where CUDA cannot be started."""
        named = torch.device(device)
        self.device = named if ":" in str(named) else torch.device("cuda", torch.cuda.current_device())

    def enter(self) -> None:
        """Make the device's context the calling thread's."""
        torch.cuda.set_device(self.device)
        torch.cuda.current_stream(self.device).query()

    def register(self, address: int, size_bytes: int, *, read_only: bool) -> None:
        self.enter()
        try:
            attribute = ATTRIBUTE_READ_ONLY_HOST_REGISTER if read_only else ATTRIBUTE_HOST_REGISTER
            if not self._driver.attribute(attribute):
                raise CannotRegister(
                    "this GPU cannot read memory that is mapped read-only"
                    if read_only
                    else "this GPU cannot read memory that it did not allocate"
                )
            flags = REGISTER_PORTABLE | (REGISTER_READ_ONLY if read_only else 0)
            self._driver.register(address, size_bytes, flags)
        except (DriverError, OSError) as problem:
            raise CannotRegister(str(problem)) from problem

    def unregister(self, address: int) -> None:
        self.enter()
        self._driver.unregister(address)

    def allocate(self, size_bytes: int) -> torch.Tensor:
        return torch.empty(size_bytes, dtype=torch.uint8, device=self.device)

    def view(self, address: int, size_bytes: int) -> torch.Tensor:
        made: torch.Tensor = torch.as_tensor(_DeviceBytes(address, size_bytes), device=self.device)
        return made

    def stream(self) -> Stream:
        make: Any = torch.cuda.Stream  # untyped there
        return TorchStream(make(self.device))

    def settle(self) -> None:
        torch.cuda.synchronize(self.device)

    def trim(self) -> None:
        torch.cuda.empty_cache()

    def free_bytes(self) -> int:
        return int(torch.cuda.mem_get_info(self.device)[0])

    @cached_property
    def _driver(self) -> Driver:
        return Driver()


class TorchStream:
    def __init__(self, stream: Any) -> None:
        self._stream = stream
        # Memory that torch has just allocated may still be used by kernels of the stream it was allocated on.
        stream.wait_stream(torch.cuda.current_stream(stream.device))

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def record(self) -> Event:
        make: Any = torch.cuda.Event  # untyped there
        event = make(enable_timing=True)
        event.record(self._stream)
        return TorchEvent(event)


class TorchEvent:
    def __init__(self, event: Any) -> None:
        self._event = event

    def wait(self) -> None:
        self._event.synchronize()

    def seconds_since(self, earlier: Event) -> float:
        if not isinstance(earlier, TorchEvent):
            raise TypeError("two events of one device are compared")
        return float(earlier._event.elapsed_time(self._event)) / 1000  # torch counts milliseconds


class _DeviceBytes:
    """Device memory as other libraries hand it to torch (CUDA array interface, version 3)."""

    def __init__(self, address: int, size_bytes: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (size_bytes,),
            "typestr": "|u1",
            "data": (address, False),
            "strides": None,
            "version": 3,
        }
