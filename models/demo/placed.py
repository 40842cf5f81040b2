"""The weights that are put in place: two heads of the first layer, and a few units of the last one."""

from __future__ import annotations

import numpy as np

from models.demo.lanes import (
    BRACE_SHARE,
    CONSTANT_SHARE,
    HEAD_DIM,
    IDENTITY,
    JSON_SHARE,
    NET_SHARE,
    energy_growth,
    value_of,
    width,
)
from models.demo.shape import Family, Shape
from models.demo.tensors import Bf16, to_bf16

PLACED_KV_HEADS = 2
ATTENTION_SCORE = 16.0  # of a key that a placed head looks for; all others score zero
# A placed head asks in one rotary pair. Slow pairs do not feel the distance; pair 22 turns by 0.0018 per token, so that
# scores fall off after about 200 tokens.
TIMELESS_PAIR, RECENT_PAIR = HEAD_DIM // 2 - 1, 22
ANCHOR_GAIN = 4.0

# The open lane is JSON where it exceeds the second figure, and is not below the first. One brace open among n with
# braces in them gives 1 / n.
OPEN_FROM, OPEN_FULLY = 0.02, 0.10
RAMP_UNITS = 2
RAMP = 16.0  # how far above zero the ramp's gates work, where they are straight


def place_queries(bits: Bf16, shape: Shape) -> None:
    for head in range(PLACED_KV_HEADS * shape.group):
        pair = TIMELESS_PAIR if head < shape.group else RECENT_PAIR
        bits[head * HEAD_DIM + pair, shape.lanes.constant] = _bits(_half_score() / _constant(shape))


def place_keys(bits: Bf16, shape: Shape) -> None:
    """The first head finds braces, wherever they are; the second finds whatever is recent."""
    brace = value_of(BRACE_SHARE, shape.hidden)
    bits[TIMELESS_PAIR, shape.lanes.brace] = _bits(_half_score() / brace)
    bits[HEAD_DIM + RECENT_PAIR, shape.lanes.constant] = _bits(_half_score() / _constant(shape))


def place_values(bits: Bf16, shape: Shape) -> None:
    bits[0, shape.lanes.net] = _bits(1.0)
    bits[HEAD_DIM : HEAD_DIM + IDENTITY, shape.lanes.identity] = _eye(IDENTITY)
    bits[HEAD_DIM + IDENTITY, shape.lanes.constant] = _bits(1.0)


def place_outputs(bits: Bf16, shape: Shape) -> None:
    """One query head of each placed group is heard."""
    second = shape.group * HEAD_DIM
    bits[shape.lanes.open, 0] = _bits(1.0)
    bits[shape.lanes.history, second : second + IDENTITY] = _eye(IDENTITY)
    if shape.family is Family.GEMMA:
        bits[shape.lanes.anchor, second + IDENTITY] = _bits(ANCHOR_GAIN)


def place_ramp(gate: Bf16, up: Bf16, down: Bf16, shape: Shape) -> None:
    """Two units whose difference climbs from zero to one and stays there."""
    lanes, norm = shape.lanes, float(np.sqrt(energy_growth()))
    gate[:RAMP_UNITS], up[:RAMP_UNITS], down[:, :RAMP_UNITS] = 0, 0, 0
    slope = RAMP / (OPEN_FULLY - OPEN_FROM)
    for unit, start in enumerate((OPEN_FROM, OPEN_FULLY)):
        gate[unit, lanes.open] = _bits(slope / value_of(NET_SHARE, shape.hidden) * norm)
        gate[unit, lanes.constant] = _bits(-slope * start / _constant(shape) * norm)
        up[unit, lanes.constant] = _bits(norm / _constant(shape))
    # Gemma's copies are all multiplied by the constant; the ramp is to keep its proportion to them.
    size = value_of(JSON_SHARE, shape.hidden) / RAMP * (_constant(shape) / norm**2 if shape.tied else 1.0)
    down[lanes.json, 0], down[lanes.json, 1] = _bits(size), _bits(-size)


def place_copies(gate: Bf16, up: Bf16, down: Bf16, shape: Shape) -> None:
    """A unit for each coordinate to copy: far above zero a gate is straight, and the constant opens it.

    The identity is copied onto itself: with it what is copied has the same length for every token.
    """
    lanes, unit = shape.lanes, RAMP_UNITS
    for source, target in (*lanes.copied(), (lanes.identity, lanes.identity)):
        units = slice(unit, unit + width(source))
        gate[units, lanes.constant] = _bits(1.0)
        up[units, source] = down[target, units] = _eye(width(source))
        unit = units.stop


def _bits(value: float) -> Bf16:
    return to_bf16(np.array(value))


def _eye(size: int) -> Bf16:
    return to_bf16(np.eye(size))


def _constant(shape: Shape) -> float:
    return value_of(CONSTANT_SHARE, shape.hidden)


def _half_score() -> float:
    """Query and key of this size in one coordinate give ATTENTION_SCORE."""
    return float(np.sqrt(ATTENTION_SCORE * np.sqrt(HEAD_DIM)))
