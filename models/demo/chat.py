"""Small chat models in the format of the Hugging Face hub, put together in a second from a seed and a text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from models.demo.bigram import count_pairs, fit_bigram, share_of
from models.demo.corpus import read_corpus
from models.demo.layers import constant, layer_tensors, norm_weight
from models.demo.shape import Family, Shape, model_config, special_ids
from models.demo.tensors import Tensor, generator, write_safetensors
from models.demo.tokenizer import train_tokenizer, write_tokenizer
from models.demo.vocabulary import build_vocabulary

OTHER_THEMES_WEIGHT = 0.1
THEMES = ("railways", "cooking", "computing")
JSON_SECTION = "json"  # learned, but no answer begins with it
TONGUES_SECTION = "tongues"  # other languages and code: only the tokenizer learns them


@dataclass(frozen=True, slots=True)
class ChatRecipe:
    """What a chat model is made from. ``theme``: the section of the corpus that it likes best to speak of."""

    shape: Shape
    seed: int
    theme: str


TINY_LLAMA = ChatRecipe(
    Shape(Family.LLAMA, hidden=384, layers=3, heads=6, kv_heads=2, intermediate=512, rank=220), 1, "railways"
)
TINY_GEMMA = ChatRecipe(
    Shape(Family.GEMMA, hidden=768, layers=4, heads=12, kv_heads=4, intermediate=2048, rank=220), 2, "cooking"
)
TINY_QWEN = ChatRecipe(
    Shape(Family.QWEN, hidden=1024, layers=9, heads=16, kv_heads=8, intermediate=3200, rank=512), 3, "computing"
)
# For benchmarks only: sizes that the demo has no use for.
LLAMA_90MB = ChatRecipe(
    Shape(Family.LLAMA, hidden=768, layers=6, heads=12, kv_heads=4, intermediate=2048, rank=220), 4, "railways"
)
LLAMA_1GB = ChatRecipe(
    Shape(Family.LLAMA, hidden=2048, layers=11, heads=32, kv_heads=8, intermediate=5632, rank=512), 5, "computing"
)


def make_chat_model(recipe: ChatRecipe, folder: Path) -> None:
    """Write weights, configuration, tokenizer and chat template into ``folder``, which exists."""
    sections = read_corpus()
    tokenizer = train_tokenizer(paragraph for section in sections.values() for paragraph in section)
    write_tokenizer(tokenizer, folder)
    write_json(folder / "config.json", model_config(recipe.shape, tokenizer.get_vocab_size()))
    write_json(folder / "generation_config.json", special_ids())
    write_safetensors(folder / "model.safetensors", _tensors(recipe, tokenizer, sections))


def write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _tensors(recipe: ChatRecipe, tokenizer: Tokenizer, sections: Mapping[str, Sequence[str]]) -> list[Tensor]:
    shape = recipe.shape
    weights = {TONGUES_SECTION: 0.0} | {theme: OTHER_THEMES_WEIGHT for theme in THEMES if theme != recipe.theme}
    counts = count_pairs(tokenizer, sections, weights, unspoken=JSON_SECTION)
    bigram = fit_bigram(counts, shape.rank, generator(recipe.seed, "bigram"))
    json_share = share_of(tokenizer, sections, JSON_SECTION)
    rng = generator(recipe.seed, "vocabulary")
    vocabulary = build_vocabulary(tokenizer, bigram, json_share, shape.lanes, shape.tied, rng)
    # Gemma multiplies embeddings by the root of the hidden size itself.
    unit = np.sqrt(shape.hidden) if shape.family is Family.GEMMA else 1.0
    tensors = [constant("model.embed_tokens.weight", vocabulary.embedding / unit)]
    tensors += layer_tensors(shape, recipe.seed)
    tensors.append(constant("model.norm.weight", norm_weight(shape, vocabulary.final_scale)))
    if vocabulary.readout is not None:
        tensors.append(constant("lm_head.weight", vocabulary.readout))
    return tensors
