"""A random Llama of about one megabyte: an engine launcher runs it once so that its code paths are warm."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from models.demo.chat import write_json
from models.demo.corpus import read_corpus
from models.demo.shape import Family, Shape, model_config
from models.demo.tensors import Tensor, generator, normal, to_bf16, write_safetensors
from models.demo.tokenizer import train_tokenizer, write_tokenizer

SHAPE = Shape(Family.LLAMA, hidden=64, layers=2, heads=2, kv_heads=1, intermediate=128, rank=0)
SEED = 5


def write_warmup_model(folder: Path) -> None:
    """Write the model into ``folder``, which exists; vocabulary and template are those of the chat models."""
    sections = read_corpus()
    tokenizer = train_tokenizer(paragraph for section in sections.values() for paragraph in section)
    write_tokenizer(tokenizer, folder)
    config = model_config(SHAPE, tokenizer.get_vocab_size())
    write_json(folder / "config.json", config)
    write_safetensors(folder / "model.safetensors", list(_tensors(tokenizer.get_vocab_size())))


def _tensors(vocabulary_size: int) -> Iterator[Tensor]:
    hidden, inner = SHAPE.hidden, SHAPE.intermediate
    yield _random("model.embed_tokens.weight", vocabulary_size, hidden)
    for index in range(SHAPE.layers):
        prefix = f"model.layers.{index}."
        yield _random(prefix + "self_attn.q_proj.weight", SHAPE.q_rows, hidden)
        yield _random(prefix + "self_attn.k_proj.weight", SHAPE.kv_rows, hidden)
        yield _random(prefix + "self_attn.v_proj.weight", SHAPE.kv_rows, hidden)
        yield _random(prefix + "self_attn.o_proj.weight", hidden, SHAPE.q_rows)
        yield _random(prefix + "mlp.gate_proj.weight", inner, hidden)
        yield _random(prefix + "mlp.up_proj.weight", inner, hidden)
        yield _random(prefix + "mlp.down_proj.weight", hidden, inner)
        yield _ones(prefix + "input_layernorm.weight")
        yield _ones(prefix + "post_attention_layernorm.weight")
    yield _ones("model.norm.weight")
    yield _random("lm_head.weight", vocabulary_size, hidden)


def _random(name: str, rows: int, columns: int) -> Tensor:
    shape = (rows, columns)
    return Tensor(name, shape, partial(normal, generator(SEED, name), shape, columns**-0.5))


def _ones(name: str) -> Tensor:
    return Tensor(name, (SHAPE.hidden,), lambda: to_bf16(np.ones(SHAPE.hidden)))
