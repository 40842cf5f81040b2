"""Models that cannot be served, or cannot be trusted: copies of good ones, each spoilt in one way, and their cards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
CLASSES = "tests.models.runtimes.bad_classes.models"


def truncate(folder: Path) -> None:
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1000])


def flip_in_the_header(folder: Path) -> None:
    """One bit of the JSON that says where each tensor lies."""
    raw = bytearray((folder / WEIGHTS).read_bytes())
    raw[raw.index(b'"data_offsets"') + 1] ^= 0x80
    (folder / WEIGHTS).write_bytes(raw)


def write_anew(folder: Path) -> None:
    """The same weights in another file, so that what is kept of it is nobody else's."""
    from safetensors.torch import load_file, save_file

    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, metadata={"format": "pt", "copy": "anew"})


def flip_in_the_payload(weights: Path) -> None:
    """The highest bit of the exponent, in some hundred numbers in the middle."""
    raw = bytearray(weights.read_bytes())
    for place in range(len(raw) // 2 | 1, len(raw) // 2 + 200, 2):
        raw[place] ^= 0x40
    beside = weights.with_name("rotten")
    beside.write_bytes(raw)
    beside.replace(weights)


def drop_a_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    tensors.pop(next(name for name in sorted(tensors) if "down_proj" in name))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def pickle_the_weights(folder: Path) -> None:
    """A pickle where the weights should be, under their name: whoever unpickles it runs what it says."""
    (folder / WEIGHTS).write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")


def keep_only_a_pickle(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def lose_the_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)


def garble_the_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": [1, 2')


def take_anothers_tokenizer(folder: Path) -> None:
    """Of a model with a larger vocabulary: most of its tokens are none of this model's."""
    spoil_json(folder / "tokenizer.json", add_words)


def add_words(tokenizer: dict[str, Any]) -> None:
    vocabulary = tokenizer["model"]["vocab"]
    first = max(vocabulary.values()) + 1000
    for place, word in enumerate(list(vocabulary)):
        if len(word) > 1 and not word.startswith("<"):
            vocabulary[word] = first + place


def spoil_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@dataclass(frozen=True, slots=True)
class Bad:
    """``like``: the good model that it is a copy of. ``card``: what its card says otherwise."""

    spoil: Callable[[Path], None] | None = None
    like: str = "tiny-llama"
    card: Mapping[str, Any] = field(default_factory=dict)


def a_class(name: str, **engine_args: Any) -> Bad:
    """A torch model whose class does what it may not do."""
    declared = {"weights": "1MiB", "kv_cache": "0", "overhead": "63MiB"}
    card = {"runtime": "torch", "allow_code": f"{CLASSES}:{name}", "engine_args": engine_args, "declared": declared}
    return Bad(like="tiny-topics", card=card)


BAD = {
    "truncated": Bad(truncate),
    "flipped-header": Bad(flip_in_the_header),
    "lacks-tensors": Bad(drop_a_tensor),
    "pickled": Bad(pickle_the_weights),
    "only-a-pickle": Bad(keep_only_a_pickle),
    "no-tokenizer": Bad(lose_the_tokenizer),
    "garbled-tokenizer": Bad(garble_the_tokenizer),
    "anothers-tokenizer": Bad(take_anothers_tokenizer),
    "rots-on-disk": Bad(write_anew),
    "missing": Bad(shutil.rmtree),
    "never-fits": Bad(card={"declared": {"weights": "100GiB", "kv_cache": "1GiB"}}),
    "wrong-argument": Bad(card={"engine_args": {"max_modle_len": 128}}),
    "too-little-cache": Bad(card={"declared": {"weights": "16MiB", "kv_cache": "1MiB", "overhead": "64MiB"}}),
    "says-it-is-small": Bad(
        like="tiny-gemma", card={"declared": {"weights": "1MiB", "kv_cache": "160MiB", "overhead": "1MiB"}}
    ),
    "class-raises": a_class("InitRaises"),
    "class-dies": a_class("LoadDies"),
    "class-never-loads": a_class("LoadHangs", load_timeout=1.0),
    "class-sometimes-raises": a_class("Told"),
    "class-hangs": a_class("Told", predict_timeout=1.0),
    "class-exits": a_class("Told"),
    "class-aborts": a_class("Told"),
    "class-leaks": a_class("Told"),
    "class-is-stopped": a_class("Told"),
}


def spoil_copies(models: Path, root: Path) -> dict[str, Path]:
    """Name -> folder. Those whose folder is as good as new share it with the good model."""
    folders = {}
    for name, bad in BAD.items():
        if bad.spoil is None:
            folders[name] = models / bad.like
        else:
            folders[name] = Path(shutil.copytree(models / bad.like, root / name))
            bad.spoil(folders[name])
    return folders


def bad_cards(good: Mapping[str, dict[str, Any]], folders: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Cards to be added to those of the good models, which are given by name."""
    return [
        {**good[bad.like], **bad.card, "model_id": name, "model_source": str(folders[name]), "aliases": []}
        for name, bad in BAD.items()
    ]
