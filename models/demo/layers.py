"""The weights of a demo model's layers: random, but for what ``placed.py`` puts in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from models.demo.lanes import COLOUR_SHARE, CONSTANT_SHARE, HEAD_DIM, HISTORY_SHARE, width
from models.demo.placed import (
    ANCHOR_GAIN,
    ATTENTION_SCORE,
    PLACED_KV_HEADS,
    place_copies,
    place_keys,
    place_outputs,
    place_queries,
    place_ramp,
    place_values,
)
from models.demo.shape import Family, Shape
from models.demo.tensors import Bf16, Real, Tensor, generator, normal, to_bf16

RANDOM_SCORE = 2.0  # standard deviation of a random head's scores: it looks at a few tokens, not at all of them
TYPICAL_VALUE, TYPICAL_ACTIVATION = 0.6, 0.6  # root mean squares of what o_proj and down_proj get to see
COPY_GAIN = 100.0  # over what was in the readout's lanes before: the embedding's share of a tied matrix

Place = Callable[[Bf16, Shape], None]


def layer_tensors(shape: Shape, seed: int) -> Iterator[Tensor]:
    for index in range(shape.layers):
        prefix = f"model.layers.{index}."
        yield from _attention(shape, seed, prefix + "self_attn.", placed=index == 0)
        yield from _mlp(shape, seed, prefix + "mlp.", last=index == shape.layers - 1)
        for name, scale in _norms(shape, index).items():
            yield constant(prefix + name, norm_weight(shape, scale))


def norm_weight(shape: Shape, scale: Real) -> Real:
    """Gemma's norms multiply by one plus their weight."""
    return scale - 1 if shape.family is Family.GEMMA else scale


def constant(name: str, values: Real) -> Tensor:
    return Tensor(name, values.shape, lambda: to_bf16(values))


def _norms(shape: Shape, index: int) -> dict[str, Real]:
    ones = np.ones(shape.hidden)
    if shape.family is Family.LLAMA:
        return {"input_layernorm.weight": ones, "post_attention_layernorm.weight": ones}
    if shape.family is Family.QWEN:
        # Queries and keys are normalised: this weight alone sets the scores, sqrt(HEAD_DIM) * weight**2 at most.
        scores = np.full(HEAD_DIM, np.sqrt(ATTENTION_SCORE / np.sqrt(HEAD_DIM)))
        return {
            "input_layernorm.weight": ones,
            "post_attention_layernorm.weight": ones,
            "self_attn.q_norm.weight": scores,
            "self_attn.k_norm.weight": scores,
        }
    last = index == shape.layers - 1
    return {
        "input_layernorm.weight": ones,
        "post_attention_layernorm.weight": _gemma_head_scale(shape) if index == 0 else _gemma_colour_scale(shape),
        "pre_feedforward_layernorm.weight": ones,
        "post_feedforward_layernorm.weight": COPY_GAIN * ones if last else _gemma_colour_scale(shape),
    }


def _gemma_colour_scale(shape: Shape) -> Real:
    """Gemma normalises what a sublayer adds: this brings the colour lane back to what the other families add."""
    scale = np.zeros(shape.hidden)
    scale[shape.lanes.colour] = shape.colour_std * np.sqrt(width(shape.lanes.colour) / shape.hidden)
    return scale


def _gemma_head_scale(shape: Shape) -> Real:
    """The same for the first layer. Its anchor outweighs the rest, so that the norm is the same for every text."""
    lanes = shape.lanes
    energy = ANCHOR_GAIN**2 * CONSTANT_SHARE + HISTORY_SHARE + COLOUR_SHARE / shape.random_sublayers
    scale = np.zeros(shape.hidden)
    for lane in (lanes.open, lanes.history, lanes.colour):
        scale[lane] = np.sqrt(energy)
    return scale


def _attention(shape: Shape, seed: int, prefix: str, *, placed: bool) -> Iterator[Tensor]:
    first_kv = PLACED_KV_HEADS * HEAD_DIM if placed else 0  # rows before these are not random
    first_q = first_kv * shape.group
    value_std = shape.hidden**-0.5
    score_std = RANDOM_SCORE**0.5 * value_std

    def rows(name: str, total: int, first: int, std: float, place: Place) -> Tensor:
        def make() -> Bf16:
            bits = np.zeros((total, shape.hidden), np.uint16)
            bits[first:] = normal(generator(seed, prefix + name), (total - first, shape.hidden), std)
            if placed:
                place(bits, shape)
            return bits

        return Tensor(prefix + name, (total, shape.hidden), make)

    def output() -> Bf16:
        heard = shape.q_rows - first_q  # random heads; where there are none nothing is drawn
        std = shape.colour_std / (TYPICAL_VALUE * max(heard, 1) ** 0.5)
        bits = np.zeros((shape.hidden, shape.q_rows), np.uint16)
        drawn = normal(generator(seed, prefix + "o_proj.weight"), (width(shape.lanes.colour), heard), std)
        bits[shape.lanes.colour, first_q:] = drawn
        if placed:
            place_outputs(bits, shape)
        return bits

    yield rows("q_proj.weight", shape.q_rows, first_q, score_std, place_queries)
    yield rows("k_proj.weight", shape.kv_rows, first_kv, score_std, place_keys)
    yield rows("v_proj.weight", shape.kv_rows, first_kv, value_std, place_values)
    yield Tensor(prefix + "o_proj.weight", (shape.hidden, shape.q_rows), output)


def _mlp(shape: Shape, seed: int, prefix: str, *, last: bool) -> Iterator[Tensor]:
    gate, up, down = (f"{prefix}{name}_proj.weight" for name in ("gate", "up", "down"))
    if last:
        for name, bits in zip((gate, up, down), _last_mlp(shape, seed, gate, up, down), strict=True):
            yield Tensor(name, bits.shape, partial(np.copy, bits))
        return
    yield Tensor(gate, (shape.intermediate, shape.hidden), partial(_random_rows, shape, seed, gate))
    yield Tensor(up, (shape.intermediate, shape.hidden), partial(_random_rows, shape, seed, up))
    yield Tensor(down, (shape.hidden, shape.intermediate), partial(_random_colours, shape, seed, down))


def _last_mlp(shape: Shape, seed: int, *names: str) -> tuple[Bf16, Bf16, Bf16]:
    if shape.tied:
        gate, up = np.zeros((2, shape.intermediate, shape.hidden), np.uint16)
        down = np.zeros((shape.hidden, shape.intermediate), np.uint16)
        place_copies(gate, up, down, shape)
    else:
        gate, up = (_random_rows(shape, seed, name) for name in names[:2])
        down = _random_colours(shape, seed, names[2])
    place_ramp(gate, up, down, shape)
    return gate, up, down


def _random_rows(shape: Shape, seed: int, name: str) -> Bf16:
    return normal(generator(seed, name), (shape.intermediate, shape.hidden), shape.hidden**-0.5)


def _random_colours(shape: Shape, seed: int, name: str) -> Bf16:
    """A down projection that writes into the colour lane only."""
    bits = np.zeros((shape.hidden, shape.intermediate), np.uint16)
    std = shape.colour_std / (TYPICAL_ACTIVATION * shape.intermediate**0.5)
    bits[shape.lanes.colour] = normal(generator(seed, name), (width(shape.lanes.colour), shape.intermediate), std)
    return bits
