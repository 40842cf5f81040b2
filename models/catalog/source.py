"""Finds a model's folder and checks it before every start: what is broken is refused in a sentence, in milliseconds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.catalog.card import ModelCard
from models.catalog.errors import SourceError, SourceNotHere
from models.catalog.source_info import SourceInfo
from models.weights.errors import WeightsError
from models.weights.headers import WeightsFile, check_weights
from models.weights.hub_cache import find_snapshot, users_cache
from models.weights.selection import refuse_pickles
from models.weights.store import WeightStore
from models.weights.urls import FolderUrl, HubUrl, parse_source

__all__ = ["SourceError", "SourceInfo", "SourceNotHere", "check_source", "resolve_source"]

INDEX = "model.safetensors.index.json"
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


def resolve_source(card: ModelCard, config_dir: Path, weights_dir: Path, env: Mapping[str, str] = os.environ) -> Path:
    """The folder of a model as it is on this node: nothing is fetched. ``weights_dir``: the store's (Home.weights).

    Raises SourceNotHere for a source that has to be fetched first, SourceError for one that is known to be damaged.
    """
    store = WeightStore(weights_dir, env=env)
    try:
        folder = _folder(card, config_dir, store, env)
        store.refuse_damaged(folder)
    except WeightsError as error:
        raise _refusal(card, str(error)) from None
    return folder


def _folder(card: ModelCard, config_dir: Path, store: WeightStore, env: Mapping[str, str]) -> Path:
    """1. As imported into the store. 2. A local folder itself. 3. A snapshot in the user's Hugging Face cache.

    A complete one comes before one that is not.
    """
    url = parse_source(card.model_source, config_dir)
    found = [folder] if (folder := store.find(str(url))) is not None else []
    if isinstance(url, FolderUrl):
        return found[0] if found else url.folder
    if isinstance(url, HubUrl) and (snapshot := find_snapshot(users_cache(env), url)) is not None:
        found.append(snapshot)
    complete = next((folder for folder in found if _is_complete(card, folder)), None)
    if complete is None and not found:
        fetch = f"fetch them: roundhouse weights import {card.model_id}"
        raise SourceNotHere(str(_refusal(card, f"its weights are not on this node; {fetch}")))
    return complete or found[0]  # what it lacks is named by check_source


def check_source(card: ModelCard, folder: Path) -> SourceInfo:
    """What the folder holds, having read only small files and headers. Raises SourceError with one clear sentence."""
    try:
        config, files, weights = _read(card, folder)
    except (SourceError, WeightsError) as error:
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
        refuse_pickles(files)
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
