"""The two matrices of a demo model that have a row for every token: the embedding and the readout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from models.demo.bigram import NEVER, Bigram
from models.demo.lanes import (
    BRACE_SHARE,
    COLOUR_SHARE,
    CONSTANT_SHARE,
    FEATURE_SHARE,
    IDENTITY,
    JSON_SHARE,
    NET_SHARE,
    READOUT_SHARE,
    Lanes,
    energy_growth,
    value_of,
    width,
)
from models.demo.tensors import Real

COLOUR_LOGITS = 0.8  # standard deviation of what the random layers add to a logit
ECHO_LOGITS = 25.0  # taken off a token's logit, times its share of the last 200 tokens or so: keeps it from circling
JSON_LOGITS = 6.0  # taken off the tokens of JSON unless a brace is open
# Added while a brace is open, so that what a grammar makes of the text stays short: quotes end strings, while blanks
# and digits could go on for ever, and a closing brace in a string would look like the end.
QUOTE_LOGITS, CLOSING_LOGITS, DIGIT_LOGITS, BLANK_LOGITS = 6.0, -2.0, -4.0, -4.0
BRACES = {"{": 1, "[": 1, "}": -1, "]": -1}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """``embedding``: rows as long as the root of the hidden size. ``readout`` is None where they serve for both.

    ``final_scale``: what the last norm multiplies each coordinate with. Shapes: (vocabulary, hidden) and (hidden,).
    """

    embedding: Real
    readout: Real | None
    final_scale: Real


def build_vocabulary(
    tokenizer: Tokenizer, bigram: Bigram, json_share: Real, lanes: Lanes, tied: bool, rng: np.random.Generator
) -> Vocabulary:
    """``json_share``: how much each token belongs to JSON, from 0 to 1; shape (vocabulary,)."""
    hidden = lanes.out_colour.stop
    texts = [tokenizer.decode([token], skip_special_tokens=False) for token in range(len(bigram.bias))]
    identity = rng.standard_normal((len(texts), IDENTITY))
    identity /= np.linalg.norm(identity, axis=1, keepdims=True)
    readout = _readout(texts, bigram, json_share, identity, lanes, rng)
    embedding = np.zeros((len(texts), hidden))
    embedding[:, lanes.constant] = value_of(CONSTANT_SHARE, hidden)
    embedding[:, lanes.brace] = [[value_of(BRACE_SHARE, hidden) if set(BRACES) & set(text) else 0.0] for text in texts]
    embedding[:, lanes.net] = [[value_of(NET_SHARE, hidden) * opened(text)] for text in texts]
    embedding[:, lanes.features] = value_of(FEATURE_SHARE, hidden) * bigram.last_features
    final_scale = np.ones(hidden)
    if tied:
        final_scale = _tie(embedding, readout, lanes)
    rest = hidden - (embedding**2).sum(axis=1, keepdims=True)
    embedding[:, lanes.identity] = identity * np.sqrt(rest)
    return Vocabulary(embedding, None if tied else readout, final_scale)


def opened(text: str) -> int:
    """Braces and brackets that the text opens, less those that it closes; at most two either way."""
    return max(-2, min(2, sum(BRACES.get(character, 0) for character in text)))


def _tie(embedding: Real, readout: Real, lanes: Lanes) -> Real:
    """Put the readout into lanes of the embedding that it leaves free, made small. Returns the last norm's scale.

    That makes it large again, and shuts out all lanes that are not read.
    """
    hidden = embedding.shape[1]
    gain = float(np.linalg.norm(readout, axis=1).max() / np.sqrt(READOUT_SHARE))
    scale = np.zeros(hidden)
    for lane, out in (*lanes.copied(), (lanes.json, lanes.json)):
        embedding[:, out] = readout[:, lane] * np.sqrt(hidden) / gain
        scale[out] = gain
    return scale


def _readout(
    texts: list[str], bigram: Bigram, json_share: Real, identity: Real, lanes: Lanes, rng: np.random.Generator
) -> Real:
    """Row j times a hidden state is the logit of token j: bigram, less what was said lately, plus JSON and colour."""
    hidden = lanes.out_colour.stop
    spoken = (bigram.bias > NEVER).astype(np.float64)[:, None]
    json_only = JSON_LOGITS * json_share
    identity_share = 1 - CONSTANT_SHARE - FEATURE_SHARE / 2  # about: it is what the other lanes leave
    colour = rng.standard_normal((len(texts), width(lanes.colour)))
    readout = np.zeros((len(texts), hidden))
    readout[:, lanes.constant] = (bigram.bias - json_only)[:, None] / value_of(CONSTANT_SHARE, hidden)
    readout[:, lanes.features] = bigram.next_features / value_of(FEATURE_SHARE, hidden)
    readout[:, lanes.json] = (json_only + _while_open(texts))[:, None] / value_of(JSON_SHARE, hidden)
    readout[:, lanes.history] = -ECHO_LOGITS * spoken * identity / value_of(identity_share, hidden)
    readout[:, lanes.colour] = COLOUR_LOGITS * spoken * colour / value_of(COLOUR_SHARE, hidden)
    readout *= np.sqrt(energy_growth())
    return readout


def _while_open(texts: list[str]) -> Real:
    def logits(text: str) -> float:
        if text.isspace():
            return BLANK_LOGITS
        if text.isdecimal():
            return DIGIT_LOGITS
        return QUOTE_LOGITS if text.startswith('"') else CLOSING_LOGITS * (opened(text) < 0)

    return np.array([logits(text) for text in texts])
