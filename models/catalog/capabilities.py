"""What a model can do, told from its card and its config.json before it runs; nothing where only its engine knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from models.catalog.card import CODE_ARGUMENT, ModelCard
from models.runtimes.tasks.defaults import TASKS, default_class

OF_TASK: Mapping[str, tuple[str, ...]] = {
    "embeddings": ("embed", "predict"),
    "rerank": ("score", "predict"),
    "classify": ("classify", "predict"),
    "images": ("image", "predict"),
    "speech": ("speech", "predict"),
    "transcribe": ("transcribe", "realtime", "predict"),
}
OF_LANGUAGE_MODELS = ("generate", "tokenize")
_LANGUAGE_MODEL = "ForCausalLM"
# With one of these vLLM makes something else of a language model.
_OTHER_USE = ("runner", "convert", "task", "pooler_config", "override_pooler_config")


def capabilities_of(card: ModelCard, folder: Path | None) -> tuple[str, ...]:
    """``folder``: None while its files are not here."""
    config = _config(folder) if folder is not None else {}
    if card.runtime == "torch":
        named = card.engine_args.get(CODE_ARGUMENT) or default_class(config)
        return OF_TASK.get(TASKS.get(str(named), ""), ())
    architectures = config.get("architectures")
    if any(card.engine_args.get(name) for name in _OTHER_USE) or not isinstance(architectures, list):
        return ()
    return OF_LANGUAGE_MODELS if any(str(name).endswith(_LANGUAGE_MODEL) for name in architectures) else ()


def _config(folder: Path) -> dict[str, Any]:
    """Nothing where it cannot be read: what is wrong with a folder is told when the model is started."""
    try:
        return msgspec.json.decode((folder / "config.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return {}
