"""How large a batch may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.vllm.batch import DEFAULT_SEQUENCES, DEFAULT_TOKENS, batch_limits

MIB = 1 << 20
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
TINY = {"architectures": ["LlamaForCausalLM"], "hidden_size": 384, "intermediate_size": 512, "vocab_size": 3328}


def test_a_small_model_is_not_held_down():
    assert batch_limits(TINY, 64 * MIB) == {}


def test_a_large_one_in_a_small_budget_is():
    limits = batch_limits(LLAMA_8B, 64 * MIB)
    assert limits["max_num_seqs"] == 14
    assert limits["max_num_batched_tokens"] == 135


def test_with_room_it_is_not():
    assert batch_limits(LLAMA_8B, 1024 * MIB) == {}


def test_without_a_budget_nothing_is_said():
    assert batch_limits(LLAMA_8B, 0) == {}
    assert batch_limits(LLAMA_8B, -5) == {}


@pytest.mark.parametrize("name", ["hidden_size", "intermediate_size", "vocab_size"])
@pytest.mark.parametrize("value", [None, "many", 0])
def test_a_configuration_without_sizes_sets_no_limits(name, value):
    assert batch_limits({**LLAMA_8B, name: value}, 64 * MIB) == {}


def test_a_model_with_images_has_its_sizes_below():
    nested = {"architectures": ["LlavaForConditionalGeneration"], "text_config": LLAMA_8B}
    assert batch_limits(nested, 64 * MIB) == batch_limits(LLAMA_8B, 64 * MIB)


def test_a_model_that_takes_a_text_in_one_piece_is_left_alone():
    assert batch_limits({**LLAMA_8B, "architectures": ["BertModel"]}, 64 * MIB) == {}
    assert batch_limits({**LLAMA_8B, "architectures": []}, 64 * MIB) == {}


@given(st.integers(1, 1 << 34), st.integers(64, 16384), st.integers(64, 65536), st.integers(100, 300_000))
def test_a_step_has_room_for_a_token_of_each_sequence(overhead_bytes, hidden, intermediate, vocabulary):
    config = {
        "architectures": ["XForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "vocab_size": vocabulary,
    }
    limits = batch_limits(config, overhead_bytes)
    tokens = limits.get("max_num_batched_tokens", DEFAULT_TOKENS)
    assert tokens >= limits.get("max_num_seqs", DEFAULT_SEQUENCES) > 0
    more = batch_limits(config, overhead_bytes * 2)
    assert more.get("max_num_batched_tokens", DEFAULT_TOKENS) >= tokens
