"""What a checked model folder holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """``weights_bytes``: size of the safetensors files on disk. ``files``: their names, in order."""

    weights_bytes: int
    architectures: tuple[str, ...]
    max_model_len: int | None
    files: tuple[str, ...]
