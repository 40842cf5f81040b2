"""What each coordinate of a demo model's hidden state is for.

A demo model is a bigram table (``bigram.py``) set into a transformer of an ordinary family. Nothing is trained by
descent, everything is put in place: that takes a second, and the text it writes is made of words. The hidden state is
divided into lanes. Embeddings fill some of them. Two heads of the first layer (``placed.py``) fill two more: what was
said lately, and how many braces are open. All other layers are random and fill one that colours the choice of words.
The readout (``vocabulary.py``) adds the lanes up to logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

HEAD_DIM = 64
IDENTITY = HEAD_DIM - 1  # width: one head carries a token's identity, and the constant

# Shares of a hidden state's energy, which is one per coordinate; the token's identity takes what is left.
CONSTANT_SHARE = 0.10
FEATURE_SHARE = 0.45  # at most
BRACE_SHARE = 0.04
NET_SHARE = 0.01  # of a token with one brace; n braces have n**2 times as much
READOUT_SHARE = 0.15  # at most, and only where readout and embedding are one matrix
HISTORY_SHARE = 0.10  # about
COLOUR_SHARE = 0.15
JSON_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Lanes:
    """Columns of the hidden state, in groups by who fills them."""

    # Embeddings.
    constant: slice  # the same for all tokens
    brace: slice  # whether there is a brace or a bracket in the token
    net: slice  # how many of them it opens, less those that it closes
    identity: slice  # a random direction of its own
    features: slice  # its row of the bigram table
    # The first layer's heads.
    open: slice  # mean of the net lane over all tokens with braces
    history: slice  # mean of the identities of recent tokens
    anchor: slice  # a constant that keeps Gemma's norms steady
    # All layers.
    colour: slice
    # The last layer.
    json: slice  # one while a brace is open, zero otherwise
    # Copies for a readout that is the embedding matrix: what a token fills there, it cannot read.
    out_constant: slice
    out_features: slice
    out_history: slice
    out_colour: slice

    @classmethod
    def lay_out(cls, hidden: int, rank: int, tied: bool) -> Lanes:
        """Raises ValueError when ``hidden`` has no room for a bigram table of this rank."""
        before, copies = (1, 1, 1, IDENTITY, rank, 1, IDENTITY, 1), (1, rank, IDENTITY) if tied else (0, 0, 0)
        colour = (hidden - sum(before) - 1 - sum(copies)) // (2 if tied else 1)
        if colour < 1:
            raise ValueError(f"hidden size {hidden} is too small for a bigram table of rank {rank}; lower the rank")
        ends = np.cumsum([0, *before, colour, 1, *copies, colour if tied else 0]).tolist()
        return cls(*(slice(start, end) for start, end in pairwise(ends)))

    def copied(self) -> Iterator[tuple[slice, slice]]:
        """(lane that the layers fill, lane that a tied readout reads)."""
        yield self.constant, self.out_constant
        yield self.features, self.out_features
        yield self.history, self.out_history
        yield self.colour, self.out_colour


def width(lane: slice) -> int:
    return int(lane.stop - lane.start)


def value_of(share: float, hidden: int) -> float:
    """Length of a vector that holds this share of the energy."""
    return float(np.sqrt(share * hidden))


def energy_growth() -> float:
    """Energy per coordinate at the end, which began as one. The norms divide by its root."""
    return 1 + HISTORY_SHARE + COLOUR_SHARE
