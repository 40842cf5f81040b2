"""Small random encoders as transformers saves them, with a tokenizer, for tests of the torch runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

WORDS = ("[PAD]", "[UNK]", "a", "b", "c", "d", "e", "Up")
SIZES = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def make_encoder(folder: Path, family: str = "Bert", *, seed: int = 0, **config: Any) -> Path:
    """A saved ``<family>Model``; ``config`` overrides its sizes."""
    torch.manual_seed(seed)
    sizes = {**SIZES, "intermediate_size": 32, "max_position_embeddings": 20, "pad_token_id": 0}
    if family == "DistilBert":
        sizes = {"vocab_size": len(WORDS), "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "pad_token_id": 0}
    configuration = getattr(transformers, f"{family}Config")(**{**sizes, **config})
    getattr(transformers, f"{family}Model")(configuration).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def make_sequence_classifier(folder: Path, family: str = "Bert", *, seed: int = 0, **config: Any) -> Path:
    """A saved ``<family>ForSequenceClassification``; ``config`` overrides its sizes, ``num_labels`` among them."""
    torch.manual_seed(seed)
    sizes = {**SIZES, "intermediate_size": 32, "max_position_embeddings": 20, "pad_token_id": 0}
    if family == "DistilBert":
        sizes = {"vocab_size": len(WORDS), "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "pad_token_id": 0}
    configuration = getattr(transformers, f"{family}Config")(**{**sizes, **config})
    model = getattr(transformers, f"{family}ForSequenceClassification")(configuration)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # as they come, all inputs would look alike
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A:0 $B:1", special_tokens=[])
    tokenizer.save(str(folder / "tokenizer.json"))


def write_modules(folder: Path, *kinds: str, **pooling: bool) -> None:
    """modules.json with a transformer and ``kinds``, and the pooling flags."""
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for index, kind in enumerate(kinds, start=1):
        path = f"{index}_{kind}"
        listed.append({"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"})
        (folder / path).mkdir(exist_ok=True)
        (folder / path / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **pooling}))
    (folder / "modules.json").write_text(json.dumps(listed))
