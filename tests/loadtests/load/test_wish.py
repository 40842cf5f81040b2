"""What callers want, and how it is written: by seed the same, by salt never the same prompt twice."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.client.call import Ask
from loadtests.load.settings import Settings
from loadtests.load.wish import BLOCK_TOKENS, Conversation, Mix, Wish, Writer
from loadtests.load.words import Words

KEYS = {"": "k", "noisy": "n"}


def asked(ask: Ask) -> Any:
    return json.loads(ask.body)


def drawn(count: int = 400, **given: Any) -> list[Wish]:
    rng = random.Random(3)
    mix = Mix(Settings(**{"models": ("a", "b"), **given}))
    return [mix.draw(rng) for _ in range(count)]


def test_a_seed_repeats_what_is_wanted() -> None:
    assert drawn() == drawn()
    assert {wish.model for wish in drawn()} == {"a", "b"}


def test_dialects_come_up_by_their_weight() -> None:
    found = Counter(wish.dialect for wish in drawn(dialects={"chat": 3.0, "messages": 1.0, "completions": 0.0}))
    assert set(found) == {"chat", "messages"}
    assert found["chat"] / 400 == pytest.approx(0.75, abs=0.07)


def test_embedders_make_embeddings_whatever_the_dialects_are() -> None:
    found = [wish for wish in drawn(embedders=("e",), dialects={"messages": 1.0}) if wish.model == "e"]
    assert found
    assert {(wish.dialect, wish.stream, wish.turns) for wish in found} == {("embeddings", False, 1)}


def test_shares_of_whole_answers_and_shared_prefixes() -> None:
    found = drawn(unstreamed=0.25, prefix_share=0.5, prefix_groups=2)
    assert sum(not wish.stream for wish in found) / 400 == pytest.approx(0.25, abs=0.07)
    assert sum(wish.prefix >= 0 for wish in found) / 400 == pytest.approx(0.5, abs=0.08)
    assert {wish.prefix for wish in found} == {-1, 0, 1}


def test_a_prompt_has_about_as_many_words_as_tokens_were_wanted() -> None:
    writer = Writer(Settings(salt="s"), KEYS)
    for tokens in (1, 32, 500):
        ask = writer.next_ask(Conversation(Wish("a", prompt_tokens=tokens, output_tokens=9)))
        said = asked(ask)["messages"][0]["content"].split()
        assert abs(len(said) - max(2, tokens - 3)) <= 1
        assert asked(ask)["max_tokens"] == 9


def test_another_salt_is_another_prompt_from_its_first_word() -> None:
    wish = Wish("a", place=77)
    one, other = (asked(Writer(Settings(salt=salt), KEYS).next_ask(Conversation(wish))) for salt in ("s1", "s2"))
    first = [document["messages"][0]["content"].split()[0] for document in (one, other)]
    assert first[0] != first[1]
    assert one["messages"][0]["content"].split()[1:] == other["messages"][0]["content"].split()[1:]


def test_a_shared_prefix_is_the_same_for_its_group_alone() -> None:
    writer = Writer(Settings(prefix_tokens=20, prefix_groups=2), KEYS)
    begins = []
    for prefix, place in ((0, 1), (0, 2), (1, 3)):
        system, _ = asked(writer.next_ask(Conversation(Wish("a", prefix=prefix, place=place))))["messages"]
        assert (system["role"], len(system["content"].split())) == ("system", 20)
        begins.append(system["content"])
    assert begins[0] == begins[1] != begins[2]


def said_of(settings: Settings, *wishes: Wish) -> list[list[str]]:
    """The words of each wish's prompt."""
    writer = Writer(settings, KEYS)
    return [asked(writer.next_ask(Conversation(wish)))["messages"][0]["content"].split() for wish in wishes]


def test_prompts_with_the_same_first_blocks_begin_with_the_same_text_and_part_where_they_differ() -> None:
    first = Wish("a", prompt_tokens=2 * BLOCK_TOKENS + 100, place=1, blocks=(0, 1, 2))
    second = Wish("a", prompt_tokens=3 * BLOCK_TOKENS, place=2, blocks=(0, 1, 7))
    one, other = said_of(Settings(salt="s"), first, second)
    shared = next(place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    assert shared == 1 + 2 * BLOCK_TOKENS  # and the salt
    assert abs(len(one) - first.prompt_tokens) <= 4
    assert abs(len(other) - second.prompt_tokens) <= 4


def test_blocks_are_shared_within_a_run_not_with_the_run_before() -> None:
    wish = Wish("a", prompt_tokens=600, blocks=(5, 6))
    one, other = (said_of(Settings(salt=salt), wish)[0] for salt in ("s1", "s2"))
    assert one[0] != other[0]
    assert one[1:] == other[1:]


def test_what_no_block_covers_is_the_prompts_own() -> None:
    wishes = [Wish("a", prompt_tokens=BLOCK_TOKENS + 100, place=place, blocks=(3,)) for place in (1, 2)]
    one, other = said_of(Settings(salt="s"), *wishes)
    assert one[: 1 + BLOCK_TOKENS] == other[: 1 + BLOCK_TOKENS]
    assert one[1 + BLOCK_TOKENS] != other[1 + BLOCK_TOKENS]


def test_a_shortened_prompt_keeps_its_first_blocks() -> None:
    wish = Wish("a", prompt_tokens=5000, output_tokens=8, blocks=tuple(range(10)))
    whole, short = (said_of(Settings(salt="s", contexts=contexts), wish)[0] for contexts in ({}, {"a": 2000}))
    assert len(short) < len(whole) / 4
    assert whole[: len(short)] == short


def test_each_turn_carries_what_was_said_before() -> None:
    writer = Writer(Settings(), KEYS)
    conversation = Conversation(Wish("a", turns=2))
    first = writer.next_ask(conversation)
    assert (first.keep_text, conversation.more) == (True, True)
    conversation.said.append(("assistant", "Indeed."))
    second = asked(writer.next_ask(conversation))
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][0] == asked(first)["messages"][0]
    assert not conversation.more


def test_what_does_not_fit_a_models_context_is_shortened_and_counted() -> None:
    writer = Writer(Settings(contexts={"small": 100}), KEYS)
    long = Wish("small", prompt_tokens=5000, output_tokens=400)
    document = asked(writer.next_ask(Conversation(long)))
    assert document["max_tokens"] == 50
    assert len(document["messages"][0]["content"].split()) * 2.5 <= 50
    assert writer.shortened == 1
    writer.next_ask(Conversation(Wish("small", prompt_tokens=15, output_tokens=20)))
    writer.next_ask(Conversation(Wish("large", prompt_tokens=5000)))
    assert writer.shortened == 1


def test_a_tenant_calls_with_its_own_key() -> None:
    writer = Writer(Settings(), KEYS)
    assert [writer.next_ask(Conversation(Wish("a", tenant=tenant))).key for tenant in ("", "noisy")] == ["k", "n"]


@given(st.integers(1, 90_000), st.integers(0, 10**9))
def test_any_count_of_words_from_anywhere(count: int, begin: int) -> None:
    assert len(WORDS.text(count, begin).split(" ")) == count


WORDS = Words(random.Random(0))
