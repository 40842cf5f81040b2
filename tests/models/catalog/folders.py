"""Model folders for tests, small but in the real formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TensorSpec = tuple[str, list[int], int]  # dtype, shape, bytes

TENSORS: dict[str, TensorSpec] = {
    "embed.weight": ("BF16", [16, 8], 256),
    "head.weight": ("BF16", [8, 16], 256),
    "norm.weight": ("F32", [8], 32),
}


def header_of(tensors: dict[str, TensorSpec]) -> dict[str, Any]:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, size_bytes) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size_bytes]}
        end += size_bytes
    return header


def safetensors_bytes(header: Any, data_bytes: int) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"\x01" * data_bytes


def weights(tensors: dict[str, TensorSpec] | None = None) -> bytes:
    tensors = TENSORS if tensors is None else tensors
    return safetensors_bytes(header_of(tensors), sum(size_bytes for _, _, size_bytes in tensors.values()))


def model_folder(folder: Path, **config: Any) -> Path:
    """A folder that passes every check."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 2048, **config}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "BPE"}}')
    (folder / "model.safetensors").write_bytes(weights())
    return folder


def sharded_folder(folder: Path, shards: int = 2) -> Path:
    """The same with one tensor in each shard, and the index that names them."""
    model_folder(folder)
    (folder / "model.safetensors").unlink()
    places = {}
    for number, (name, spec) in enumerate(list(TENSORS.items())[:shards], start=1):
        shard = f"model-{number:05d}-of-{shards:05d}.safetensors"
        (folder / shard).write_bytes(weights({name: spec}))
        places[name] = shard
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
