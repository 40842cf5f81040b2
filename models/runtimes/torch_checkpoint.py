"""A transformers model from a folder in the time that its skeleton takes: weights are views of the mapped files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from models.runtimes import model_folder
from models.runtimes.protocol import EngineError


def load_encoder(folder: Path) -> Any:
    """An encoder (``transformers.AutoModel``) on the CPU, in evaluation mode, in the type that its files have.

    Raises EngineError when files are missing, damaged, incomplete or of an unknown architecture.
    """
    model_folder.read_config(folder)
    files = model_folder.weight_files(folder)
    model = _skeleton(folder)
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            weights |= load_file(file)
        except SafetensorError as problem:
            raise EngineError(f"{file.name} is damaged: {problem}") from problem
    _bind(model, weights)
    return model.eval().requires_grad_(False)


def _skeleton(folder: Path) -> Any:
    import transformers

    any_model: Any = transformers.AutoModel  # untyped there
    try:
        config = transformers.AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            return any_model.from_config(config)
    except (ValueError, KeyError) as problem:
        kind = model_folder.read_config(folder).get("model_type")
        raise EngineError(f"the model's type {kind!r} (in config.json) is not one that transformers knows") from problem


def _bind(model: Any, weights: dict[str, torch.Tensor]) -> None:
    prefix = f"{model.base_model_prefix}."
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    try:
        missing = model.load_state_dict(own, assign=True, strict=False).missing_keys
    except RuntimeError as problem:
        raise EngineError("the weights do not match config.json: a tensor has another shape") from problem
    if any(name.startswith("pooler.") for name in missing):
        model.pooler = None  # encoders are often saved without the head that nobody asks them for
        missing = [name for name in missing if not name.startswith("pooler.")]
    if missing:
        raise EngineError(f"the weights are incomplete: {missing[0]} is missing")
    for module in model.modules():
        for name, buffer in tuple(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                module.register_buffer(name, _rebuilt(name, buffer), persistent=False)


def _rebuilt(name: str, buffer: torch.Tensor) -> torch.Tensor:
    """Buffers that no file holds, because they follow from the configuration."""
    if name == "position_ids":
        return torch.arange(buffer.shape[-1]).expand(buffer.shape)
    if name == "token_type_ids":
        return torch.zeros(buffer.shape, dtype=torch.long)
    raise EngineError(f"this kind of model cannot be loaded by the torch runtime: it does not know how to make {name}")
