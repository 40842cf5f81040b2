"""Embedding and readout: what a token says of itself, and how a hidden state becomes logits."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer

from models.demo.bigram import Bigram, count_pairs, fit_bigram, share_of
from models.demo.corpus import read_corpus
from models.demo.lanes import Lanes, energy_growth
from models.demo.tensors import Real, generator
from models.demo.tokenizer import SPECIAL_TOKENS
from models.demo.vocabulary import Vocabulary, build_vocabulary, opened

RANK = 60
HIDDEN = {False: 300, True: 450}


@pytest.fixture(scope="module")
def bigram(tokenizer: Tokenizer) -> Bigram:
    return fit_bigram(count_pairs(tokenizer, read_corpus(), {}, unspoken="json"), RANK, generator(1, "bigram"))


@pytest.fixture(scope="module", params=[False, True], ids=["own readout", "tied"])
def built(tokenizer: Tokenizer, bigram: Bigram, request: pytest.FixtureRequest) -> tuple[Vocabulary, Lanes]:
    tied: bool = request.param
    lanes = Lanes.lay_out(HIDDEN[tied], RANK, tied)
    json_share = share_of(tokenizer, read_corpus(), "json")
    return build_vocabulary(tokenizer, bigram, json_share, lanes, tied, generator(1, "vocabulary")), lanes


def logits(vocabulary: Vocabulary, lanes: Lanes, *, token: int, json: float = 0.0) -> Real:
    """What the layers leave, by hand: the token's own lanes, or their copies, through the last norm."""
    state = vocabulary.embedding[token].copy()
    if vocabulary.readout is not None:
        state[lanes.json] = json
        return np.asarray(vocabulary.readout @ state / np.sqrt(energy_growth()))
    copied = np.zeros_like(state)
    for source, target in lanes.copied():
        copied[target] = state[source]
    copied[lanes.json] = json
    unit = np.sqrt(len(state))  # the family multiplies embeddings by it, not readouts
    return np.asarray(vocabulary.embedding / unit @ (copied * vocabulary.final_scale) / np.sqrt(energy_growth()))


def test_every_token_is_as_long_as_the_norm_wants_it(built: tuple[Vocabulary, Lanes]) -> None:
    vocabulary, _ = built
    lengths = np.linalg.norm(vocabulary.embedding, axis=1)
    assert lengths == pytest.approx(np.full(len(lengths), np.sqrt(vocabulary.embedding.shape[1])))


def test_no_two_tokens_look_alike(built: tuple[Vocabulary, Lanes]) -> None:
    vocabulary, _ = built
    assert len(np.unique(vocabulary.embedding.round(6), axis=0)) == len(vocabulary.embedding)


def test_the_readout_gives_the_bigram_back(
    tokenizer: Tokenizer, bigram: Bigram, built: tuple[Vocabulary, Lanes]
) -> None:
    vocabulary, lanes = built
    plain = np.flatnonzero(share_of(tokenizer, read_corpus(), "json") == 0)
    for word in (" the", ".", " train"):
        token = tokenizer.encode(word, add_special_tokens=False).ids[0]
        expected = bigram.bias + bigram.next_features @ bigram.last_features[token]
        assert logits(vocabulary, lanes, token=token)[plain] == pytest.approx(expected[plain])


def test_special_tokens_stay_out_of_reach(tokenizer: Tokenizer, built: tuple[Vocabulary, Lanes]) -> None:
    vocabulary, lanes = built
    said = logits(vocabulary, lanes, token=tokenizer.encode(".", add_special_tokens=False).ids[0])
    assert said[SPECIAL_TOKENS.index("<|user|>")] < said.max() - 20


def test_an_open_brace_brings_quotes_and_the_words_of_json(
    tokenizer: Tokenizer, built: tuple[Vocabulary, Lanes]
) -> None:
    vocabulary, lanes = built
    train = tokenizer.encode(" train", add_special_tokens=False).ids[0]
    gained = logits(vocabulary, lanes, token=train, json=1.0) - logits(vocabulary, lanes, token=train)

    def gain(text: str) -> float:
        return float(gained[tokenizer.encode(text, add_special_tokens=False).ids[0]])

    assert gain('","') > gain('{"') > gain(" water") == pytest.approx(0.0)
    assert gain("\n") < 0


@pytest.mark.parametrize(
    ("text", "count"),
    [("train", 0), ('{"', 1), ("[{", 2), ("[[[[", 2), ('"}', -1), ("}}]", -2), ("{}", 0)],
)
def test_braces_are_counted(text: str, count: int) -> None:
    assert opened(text) == count
