"""A card's LoRA adapters, checked before every start: what is broken is refused in a sentence, not by a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.catalog.card import ModelCard
from models.catalog.errors import SourceError
from models.weights.errors import WeightsError
from models.weights.headers import check_weights

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MOST_CONFIG_BYTES = 1 << 20


def adapter_folders(card: ModelCard, config_dir: Path) -> dict[str, Path]:
    """Name -> folder, absolute; relative ones are relative to ``config_dir``. Raises SourceError."""
    found: dict[str, Path] = {}
    for name, given in card.adapters.items():
        folder = (config_dir / Path(given).expanduser()).absolute()
        try:
            check_adapter(folder)
        except (SourceError, WeightsError) as error:
            message = f"Model {card.model_id!r} cannot be started: its adapter {name!r} in {given}: {error}."
            raise SourceError(message) from None
        found[name] = folder
    return found


def check_adapter(folder: Path) -> int:
    """The adapter's rank. Raises SourceError, and Damaged for weights that cannot be read.

    Only safetensors: the engine would unpickle what else there is.
    """
    config = _config(folder / CONFIG)
    kind, rank = config.get("peft_type"), config.get("r")
    if kind != "LORA":
        raise SourceError(f"{CONFIG} says peft_type {str(kind)[:40]!r}, and only LORA is served")
    if type(rank) is not int or rank < 1:
        raise SourceError(f"{CONFIG} has no rank (r)")
    check_weights(folder / WEIGHTS)
    return rank


def _config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_CONFIG_BYTES:
            raise SourceError(f"{CONFIG} is larger than {MOST_CONFIG_BYTES >> 20} MiB")
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise SourceError(f"the folder has no {CONFIG}") from None
    except OSError as error:
        raise SourceError(f"{CONFIG} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise SourceError(f"{CONFIG} is not valid JSON") from None
    if not isinstance(config, dict):
        raise SourceError(f"{CONFIG} does not hold a JSON object")
    return config
