"""A LoRA adapter as PEFT writes it, made from a seed for one of the demo's chat models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

PREFIX = "base_model.model.model.layers"
STRENGTH = 0.4  # of a change that is heard in every answer


def make_adapter(folder: Path, model: Path, *, seed: int = 1, rank: int = 4, strength: float = STRENGTH) -> Path:
    """Changes the attention of every layer of the model in ``model``, a folder with its config.json."""
    config = json.loads((model / "config.json").read_text())
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for layer in range(config["num_hidden_layers"]):
        for name, rows in _rows(config).items():
            at = f"{PREFIX}.{layer}.self_attn.{name}"
            tensors[f"{at}.lora_A.weight"] = rng.normal(size=(rank, config["hidden_size"])).astype(np.float32)
            tensors[f"{at}.lora_B.weight"] = strength * rng.normal(size=(rows, rank)).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    written = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    written |= {"target_modules": sorted(_rows(config)), "base_model_name_or_path": str(model)}
    (folder / "adapter_config.json").write_text(json.dumps(written))
    return folder


def _rows(config: dict[str, int]) -> dict[str, int]:
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return {"q_proj": config["num_attention_heads"] * head, "v_proj": config["num_key_value_heads"] * head}
