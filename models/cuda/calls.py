"""The few things that are asked of CUDA, as a Protocol: ``torch_calls.py`` asks the device, tests play it."""

from __future__ import annotations

from typing import Protocol

import torch


class CannotRegister(Exception):
    """Host memory cannot be made readable for the device; the message is the driver's reason in a few words."""


class Event(Protocol):
    def wait(self) -> None:
        """Block until everything before it on its stream is done."""

    def seconds_since(self, earlier: Event) -> float:
        """Device time between the two; both must have been waited for."""


class Stream(Protocol):
    """An order of copies of its own: they wait neither for kernels nor for other streams."""

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Bytes from host to device or back; flat uint8 tensors of one length.

        Returns at once when the host side is registered. Both sides must then stay as they are until an event that
        was recorded later has been waited for.
        """

    def record(self) -> Event: ...


class CudaCalls(Protocol):
    @property
    def device(self) -> torch.device: ...

    def register(self, address: int, size_bytes: int, *, read_only: bool) -> None:
        """Pin host memory where it lies, so that the bus reads it at full speed. Raises CannotRegister.

        ``read_only``: the mapping cannot be written, as one of a file; not every device takes such memory.
        """

    def unregister(self, address: int) -> None: ...

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """Flat uint8 device memory whose address is a multiple of 512. Raises torch.OutOfMemoryError."""

    def view(self, address: int, size_bytes: int) -> torch.Tensor:
        """Device memory that somebody else has mapped, as a flat uint8 tensor that does not own it."""

    def stream(self) -> Stream: ...

    def settle(self) -> None:
        """Wait for all kernels of this process."""

    def trim(self) -> None:
        """Give device memory that torch keeps for later back to the driver."""

    def free_bytes(self) -> int:
        """Of the device, by what other processes have left."""
