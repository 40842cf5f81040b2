"""Finds a model's folder and checks it before every start: what is broken is refused in a sentence, in milliseconds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.catalog import hub
from models.catalog.card import ModelCard
from models.catalog.errors import SourceError
from models.catalog.source_info import SourceInfo
from models.catalog.weights import WeightsFile, check_weights

__all__ = ["SourceError", "SourceInfo", "check_source", "resolve_source"]

INDEX = "model.safetensors.index.json"
PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
MOST_JSON_BYTES = 64 * 2**20
# The names that vLLM reads the longest context from; the smallest counts.
_LENGTH_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)


def resolve_source(card: ModelCard, config_dir: Path, cache_dir: Path, env: Mapping[str, str] = os.environ) -> Path:
    """The folder of a model; ``hf://`` is downloaded when no cache has it, unless HF_HUB_OFFLINE=1. Raises SourceError.

    A revision that a complete copy was found of is not asked for again: starts do not depend on the network.
    """
    if not card.on_hub:
        return (config_dir / Path(card.model_source).expanduser()).resolve()
    source = hub.HubSource.parse(card.model_source)
    found = [folder for cache in hub.hub_caches(cache_dir, env) if (folder := hub.find_snapshot(cache, source))]
    complete = next((folder for folder in found if _is_complete(card, folder)), None)
    if complete is not None:
        return complete
    if not hub.is_offline(env):
        try:
            return hub.download(source, cache_dir, env)
        except SourceError as error:
            raise _refusal(card, str(error)) from error
    if found:
        return found[0]  # what it lacks is named by check_source
    fetch = f"hf download {source.repo} --revision {source.revision}"
    raise _refusal(card, f"it is not in the local cache and downloads are off (HF_HUB_OFFLINE); run `{fetch}` once")


def check_source(card: ModelCard, folder: Path) -> SourceInfo:
    """What the folder holds, having read only small files and headers. Raises SourceError with one clear sentence."""
    try:
        config, files, weights = _read(card, folder)
    except SourceError as error:
        raise _refusal(card, str(error)) from None
    architectures = config.get("architectures")
    return SourceInfo(
        weights_bytes=sum(file.size_bytes for file in weights.values()),
        architectures=tuple(str(name) for name in architectures) if isinstance(architectures, list) else (),
        max_model_len=_max_model_len(card, config),
        files=tuple(sorted(files)),
    )


def _read(card: ModelCard, folder: Path) -> tuple[dict[str, Any], list[str], dict[str, WeightsFile]]:
    try:
        files = os.listdir(folder)
    except FileNotFoundError:
        raise SourceError("the folder does not exist") from None
    except OSError as error:
        raise SourceError(f"the folder cannot be read ({error.strerror})") from None
    if "config.json" not in files:
        raise SourceError("the folder has no config.json")
    config = _json_object(folder / "config.json")
    weights = _checked_weights(folder, files)
    _check_tokenizer(card, folder, files)
    return config, files, weights


def _checked_weights(folder: Path, files: list[str]) -> dict[str, WeightsFile]:
    if INDEX in files:
        return _indexed_weights(folder, files)
    names = sorted(name for name in files if name.endswith(".safetensors"))
    if not names:
        pickled = sorted(name for name in files if Path(name).suffix in PICKLED)
        if pickled:
            which = f"{pickled[0]} and {len(pickled) - 1} more" if len(pickled) > 1 else pickled[0]
            raise SourceError(
                f"it has only pickled weights ({which}), which are refused because they can run code; "
                "convert them to safetensors"
            )
        raise SourceError("the folder has no *.safetensors weights")
    return {name: check_weights(folder / name) for name in names}


def _indexed_weights(folder: Path, files: list[str]) -> dict[str, WeightsFile]:
    """The shards that the index names; other safetensors files beside them are not loaded."""
    places = _json_object(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        raise SourceError(f"{INDEX} has no weight_map")
    shards = sorted(set(places.values()))
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise SourceError(f"{INDEX} names {shard[:100]!r}, which is not a safetensors file in the folder")
        if shard not in files:
            raise SourceError(f"the weights file {shard} is missing, which {INDEX} names")
    weights = {shard: check_weights(folder / shard) for shard in shards}
    for tensor, shard in places.items():
        if tensor not in weights[shard].tensors:
            raise SourceError(f"{INDEX} says that {shard} holds the tensor {tensor[:100]}, but it does not")
    return weights


def _check_tokenizer(card: ModelCard, folder: Path, files: list[str]) -> None:
    if card.allow_code is not None or card.engine_args.get("tokenizer") or card.engine_args.get("skip_tokenizer_init"):
        return  # a class of the user's, or an explicit argument, decides what it needs
    found = [name for name in TOKENIZERS if name in files]
    if not found:
        raise SourceError(f"the folder has no tokenizer ({', '.join(TOKENIZERS[:3])}, ...)")
    if (folder / found[0]).stat().st_size == 0:
        raise SourceError(f"the tokenizer file {found[0]} is empty")


def _json_object(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise SourceError(f"{path.name} is larger than {MOST_JSON_BYTES // 2**20} MiB")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(f"{path.name} cannot be read ({error.strerror})") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise SourceError(f"{path.name} is not valid JSON ({error.msg}, {place})") from None
    except (ValueError, RecursionError):
        raise SourceError(f"{path.name} is not valid JSON") from None
    if not isinstance(content, dict):
        raise SourceError(f"{path.name} does not hold a JSON object")
    return content


def _max_model_len(card: ModelCard, config: dict[str, Any]) -> int | None:
    """As the card asks, else as vLLM derives it from the configuration (of the text part of a multimodal model)."""
    asked = card.engine_args.get("max_model_len")
    if type(asked) is int and asked > 0:
        return asked
    text = config.get("text_config")
    config = {**config, **text} if isinstance(text, dict) else config
    lengths = [value for key in _LENGTH_KEYS if type(value := config.get(key)) is int and 0 < value < sys.maxsize]
    return min(lengths, default=None)


def _is_complete(card: ModelCard, folder: Path) -> bool:
    try:
        check_source(card, folder)
    except SourceError:
        return False
    return True


def _refusal(card: ModelCard, reason: str) -> SourceError:
    return SourceError(f"Model {card.model_id!r} cannot be started from {card.model_source}: {reason}.")
