"""A module's weights between a GPU and pinned host memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch


class DeviceWeights:
    """Moves a module's parameters and buffers off the GPU and back. On the CPU both are nothing.

    The pinned copies are made once and kept: weights do not change, so every later sleep only frees, and a wake is one
    copy per tensor at the speed of the bus.
    """

    def __init__(self, module: torch.nn.Module, device: str) -> None:
        self._module = module
        self._device = torch.device(device)
        self._pinned: dict[int, torch.Tensor] = {}

    @property
    def moves(self) -> bool:
        return self._device.type == "cuda"

    def to_host(self) -> None:
        """Blocks until the GPU's memory is given back to the driver."""
        if not self.moves:
            return
        for tensor in self._tensors():
            copy = self._pinned.get(id(tensor))
            if copy is None:
                copy = self._pinned[id(tensor)] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                copy.copy_(tensor.data)
            tensor.data = copy
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    def to_device(self) -> None:
        """Blocks until the weights are there. Raises torch.OutOfMemoryError, after which they are on the host again."""
        if not self.moves:
            return
        try:
            for tensor in self._tensors():
                tensor.data = self._pinned[id(tensor)].to(self._device, non_blocking=True)
            torch.cuda.synchronize()
        except torch.OutOfMemoryError:
            self.to_host()
            raise

    def size_bytes(self) -> int:
        """Each storage counted once."""
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in self._tensors()
        }
        return sum(storages.values())

    def _tensors(self) -> Iterator[torch.Tensor]:
        yield from self._module.parameters()
        yield from self._module.buffers()
