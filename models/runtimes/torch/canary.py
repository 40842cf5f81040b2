"""Whether a model still computes what it computed when it was first loaded.

The output of the class's own ``example()`` is recorded beside the stored layout of the weights and compared after each
later start and wake. Anything but numbers must be equal; numbers may differ by a little, because kernels and batch
shapes may.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from models.runtimes.protocol import EngineError

MOST_NUMBERS = 4096  # kept of one output, spread evenly over all of them
TOLERANCE = 2e-3  # of the largest number of the recorded output

log = logging.getLogger("roundhouse.engine")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """An output: a hash of everything but its numbers, how many numbers there are, and a sample of them."""

    shape: str
    count: int
    numbers: list[float]

    @classmethod
    def of(cls, output: Any) -> Record:
        """Raises ValueError for an output with something in it that cannot be compared."""
        shape = hashlib.sha256()
        parts: list[np.ndarray[Any, np.dtype[np.float64]]] = []
        for part in _parts(output):
            if isinstance(part, np.ndarray):
                shape.update(f"numbers {part.shape}".encode())
                parts.append(part.ravel().astype(np.float64))
            else:
                shape.update(repr(part).encode())
            shape.update(b"\0")
        numbers = np.concatenate(parts) if parts else np.empty(0)
        step = max(1, -(-len(numbers) // MOST_NUMBERS))
        return cls(shape=shape.hexdigest(), count=len(numbers), numbers=numbers[::step].tolist())

    def matches(self, other: Record) -> bool:
        if (self.shape, self.count) != (other.shape, other.count):
            return False
        expected, found = np.array(self.numbers), np.array(other.numbers)
        finite = expected[np.isfinite(expected)]
        largest = float(np.abs(finite).max()) if len(finite) else 0.0
        return bool(np.allclose(found, expected, rtol=0, atol=TOLERANCE * largest, equal_nan=True))


class Canary:
    """The record of one model; ``path`` None: it is kept for as long as the engine lives."""

    def __init__(self, name: str, path: Path | None) -> None:
        self._name = name
        self._path = path
        self._record: Record | None = None

    def read(self) -> bool:
        """Whether there is a record from before; one that cannot be read counts as none."""
        if self._path is not None and self._path.exists():
            try:
                self._record = msgspec.json.decode(self._path.read_bytes(), type=Record)
            except (OSError, msgspec.DecodeError) as problem:
                log.warning("the canary's record cannot be read and is made anew: %s", problem)
        return self._record is not None

    def keep(self, first: Any, second: Any) -> bool:
        """Record the output of two equal calls; whether they were equal enough to be one."""
        record = Record.of(first)
        if not record.matches(Record.of(second)):
            log.warning("%s answers its example differently each time: it cannot be verified", self._name)
            return False
        self._record = record
        if self._path is not None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            written = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            written.write_bytes(msgspec.json.encode(record))
            os.replace(written, self._path)  # a reader never sees half of it
        return True

    def verify(self, output: Any) -> None:
        """Raises EngineError with the fault "canary"."""
        if self._record is not None and not self._record.matches(Record.of(output)):
            raise EngineError(f"{self._name} no longer computes for its example what it did at first", "canary")


def record_path(layout_dir: str, model: object, settings: Mapping[str, Any]) -> Path | None:
    """Where the record of a class's code with these settings belongs; None without a folder for it."""
    if not layout_dir:
        return None
    try:
        code = inspect.getsource(type(model))
    except (OSError, TypeError):
        code = ""
    named = (type(model).__module__, type(model).__qualname__, code, json.dumps(settings, sort_keys=True))
    digest = hashlib.sha256("\0".join((*named, torch.__version__)).encode()).hexdigest()
    return Path(layout_dir) / f"canary-{digest[:16]}.json"


def _parts(value: Any) -> Iterator[Any]:
    """Arrays of floats, and anything else that ``repr`` tells apart."""
    if isinstance(value, torch.Tensor):
        value = value.detach().float().cpu().numpy() if value.is_floating_point() else value.cpu().numpy()
    if isinstance(value, float | np.floating):
        yield np.array([value])
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield value if np.issubdtype(value.dtype, np.number) else value.tolist()
    elif isinstance(value, str | bytes | int | bool | np.generic) or value is None:
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _parts({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    elif isinstance(value, msgspec.Struct):
        yield from _parts(msgspec.structs.asdict(value))
    elif isinstance(value, Mapping):
        for key, held in value.items():
            yield key
            yield from _parts(held)
        yield "}"
    elif isinstance(value, Sequence):
        for held in value:
            yield from _parts(held)
        yield "]"
    else:
        raise ValueError(f"an output with a {type(value).__name__} in it cannot be compared")
