"""A plain Llama in numpy, to check an engine against: slow, short, and sharing no code with any engine.

Formulas: Touvron et al., "LLaMA" (2023): pre-norm with RMSNorm, rotary positions, SwiGLU; Ainslie et al., "GQA" (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.runtimes import model_folder

Array = NDArray[np.float32]


class LlamaReference:
    """Of a folder with one safetensors file of bfloat16. Raises EngineError, and KeyError for another kind of model."""

    def __init__(self, folder: Path) -> None:
        self._config: dict[str, Any] = model_folder.read_config(folder)
        (file,) = model_folder.weight_files(folder)
        begin, entries = model_folder.read_header(file)
        raw = np.fromfile(file, dtype=np.uint8)[begin:]
        self._weights: dict[str, Array] = {}
        for name, entry in entries.items():
            first, end = entry.data_offsets
            halves = raw[first:end].copy().view(np.uint16).astype(np.uint32)
            self._weights[name] = (halves << 16).view(np.float32).reshape(entry.shape)

    def logprobs(self, tokens: Sequence[int]) -> Array:
        """Shape (tokens, vocabulary): after each token, the log probability of each next one."""
        x = self._weights["model.embed_tokens.weight"][list(tokens)]
        for layer in range(self._config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            x = x + self._attend(prefix + "self_attn.", self._norm(x, prefix + "input_layernorm"))
            x = x + self._feed_forward(prefix + "mlp.", self._norm(x, prefix + "post_attention_layernorm"))
        logits = self._norm(x, "model.norm") @ self._weights["lm_head.weight"].T
        logits = logits - logits.max(axis=-1, keepdims=True)
        return np.asarray(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)), dtype=np.float32)

    def _norm(self, x: Array, name: str) -> Array:
        scale = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self._config["rms_norm_eps"])
        return np.asarray(x / scale * self._weights[name + ".weight"], dtype=np.float32)

    def _feed_forward(self, prefix: str, x: Array) -> Array:
        gate = x @ self._weights[prefix + "gate_proj.weight"].T
        up = x @ self._weights[prefix + "up_proj.weight"].T
        inner = gate / (1 + np.exp(-gate)) * up
        return np.asarray(inner @ self._weights[prefix + "down_proj.weight"].T, dtype=np.float32)

    def _attend(self, prefix: str, x: Array) -> Array:
        query, key, value = (self._heads(x, prefix + name) for name in ("q_proj", "k_proj", "v_proj"))
        groups = len(query) // len(key)
        key, value = np.repeat(self._turned(key), groups, axis=0), np.repeat(value, groups, axis=0)
        scores = self._turned(query) @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = weights / weights.sum(axis=-1, keepdims=True) @ value
        joined = mixed.transpose(1, 0, 2).reshape(len(x), -1)
        return np.asarray(joined @ self._weights[prefix + "o_proj.weight"].T, dtype=np.float32)

    def _heads(self, x: Array, name: str) -> Array:
        """Shape (heads, tokens, numbers of a head)."""
        width = self._config["head_dim"]
        return (x @ self._weights[name + ".weight"].T).reshape(len(x), -1, width).transpose(1, 0, 2)

    def _turned(self, heads: Array) -> Array:
        """Rotary positions: each number of the first half is turned together with its like in the second."""
        half = heads.shape[-1] // 2
        speeds = self._config["rope_theta"] ** (-np.arange(half) / half)
        angles = np.outer(np.arange(heads.shape[1]), speeds).astype(np.float32)
        first, second = heads[..., :half], heads[..., half:]
        turned = (first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles))
        return np.concatenate(turned, axis=-1)
