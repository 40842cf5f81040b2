"""A look at a model's folder before anything heavy reads it: most defects can be named here in one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from models.runtimes.protocol import EngineError

Read = TypeVar("Read")

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
LONGEST_HEADER_BYTES = 100 << 20  # the format's own limit
LENGTH_BYTES = 8  # a safetensors file begins with its header's length, little-endian

FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "vocab.txt", "spiece.model")


class TensorEntry(msgspec.Struct, frozen=True):
    """One tensor in a safetensors header; ``data_offsets`` count from the header's end."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed config.json. Raises EngineError."""
    if not folder.is_dir():
        raise EngineError(f"the model's folder {folder} does not exist", "weights")
    return read_json(folder / CONFIG)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from the model's folder. Raises EngineError."""
    return _read(path, dict[str, Any])


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """A JSON list of objects from the model's folder. Raises EngineError."""
    return _read(path, list[dict[str, Any]])


def _read(path: Path, kind: type[Read]) -> Read:
    try:
        # Python's reader: configurations of transformers may hold Infinity.
        return msgspec.convert(json.loads(path.read_bytes()), type=kind)
    except FileNotFoundError as problem:
        raise EngineError(f"the model's folder {path.parent} has no {path.name}", "weights") from problem
    except OSError as problem:
        raise EngineError(f"{path.name} cannot be read: {problem.strerror}", "weights") from problem
    except (msgspec.ValidationError, ValueError) as problem:
        raise EngineError(f"{path.name} cannot be read: {problem}", "weights") from problem


def weight_files(folder: Path) -> list[Path]:
    """The model's safetensors files, each with a sound header and of the size that it promises. Raises EngineError."""
    if (folder / INDEX).exists():
        names = sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))
        files = [folder / str(name) for name in names]
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise EngineError(f"the model's folder {folder} has no *.safetensors file", "weights")
    for file in files:
        read_header(file)
    return files


def read_header(file: Path) -> tuple[int, Mapping[str, TensorEntry]]:
    """Where the data begins, and the tensors by name. Raises EngineError when the file is damaged."""
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
            if size < LENGTH_BYTES or length > min(size - LENGTH_BYTES, LONGEST_HEADER_BYTES):
                raise EngineError(f"{file.name} is damaged: its header is longer than the file", "weights")
            header = msgspec.json.decode(opened.read(length), type=dict[str, msgspec.Raw])
    except FileNotFoundError as problem:
        raise EngineError(f"the weights file {file.name} is missing", "weights") from problem
    except OSError as problem:
        raise EngineError(f"{file.name} cannot be read: {problem.strerror}", "weights") from problem
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise EngineError(f"{file.name} is damaged: its header is not JSON", "weights") from problem
    header.pop("__metadata__", None)
    try:
        tensors = {name: msgspec.json.decode(raw, type=TensorEntry) for name, raw in header.items()}
    except msgspec.DecodeError as problem:
        raise EngineError(f"{file.name} is damaged: {problem}", "weights") from problem
    begin = LENGTH_BYTES + length
    end = begin + max((entry.data_offsets[1] for entry in tensors.values()), default=0)
    if end != size:
        raise EngineError(f"{file.name} is damaged: its header promises {end} bytes, it has {size}", "weights")
    return begin, tensors


def check_tokenizer(folder: Path) -> None:
    """Raises EngineError when no file could hold a vocabulary."""
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise EngineError(
            f"the model's folder {folder} has no tokenizer ({', '.join(TOKENIZER_FILES[:2])}, ...)", "weights"
        )


def tensor_bytes(folder: Path, float_bytes: int) -> int:
    """What the weights take once their floating point numbers have ``float_bytes`` each. 0 without weights files."""
    total = 0
    for file in folder.glob("*.safetensors"):
        for entry in read_header(file)[1].values():
            size_bytes = entry.data_offsets[1] - entry.data_offsets[0]
            # Quantized ones (F8 and the integers) stay as they are.
            total += size_bytes * float_bytes // FLOAT_BYTES.get(entry.dtype, float_bytes)
    return total
