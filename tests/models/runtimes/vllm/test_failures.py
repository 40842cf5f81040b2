"""What vLLM raises, and the one sentence that a card's author reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError, model_validator

from models.runtimes.protocol import EngineError
from models.runtimes.vllm.failures import LONGEST_SENTENCE, explain
from models.runtimes.vllm.patches import KvTooSmall
from tests.models.runtimes.orders import MIB
from tests.models.runtimes.orders import order as order_in

HERE = Path("/run/x")
SOURCE = "/models/tiny"


def said(problem, **engine_args):
    return str(explain(problem, order_in(HERE, source=SOURCE, **engine_args)))


@pytest.mark.parametrize(
    ("raised", "sentence"),
    [
        (
            "User-specified max_model_len (4096) is greater than the derived max_model_len"
            " (max_position_embeddings=2048 or model_max_length=None in model's config.json). To allow",
            "engine_args.max_model_len 4096 is more than the 2048 tokens that the model was made for",
        ),
        (
            "Cannot auto-fit max_model_len: not enough GPU memory available to serve even a single token.",
            "the KV cache is too small for a single token of this model: raise declared.kv_cache",
        ),
        (
            "Available memory on node 0 (11.97/14.46 GiB) on kv cache allocation is less than requested memory for kv"
            " (1024.0 GiB). Decrease --kv-cache-memory-bytes",
            "the KV cache wants 1024.0 GiB, the machine has 11.97 GiB of memory left",
        ),
        (
            "Free memory on device cuda:0 (3.1/79.1 GiB) on startup is less than desired GPU memory utilization",
            "the GPU has 3.1 of 79.1 GiB free, less than the card's declared memory",
        ),
        (
            "Model architectures ['FooForCausalLM'] are not supported for now. Supported architectures: dict_keys([])",
            "the model's architecture ['FooForCausalLM'] is not supported by this vLLM",
        ),
        (
            "The checkpoint you are trying to load has model type `foo` but Transformers does not recognize this",
            "the model's type foo (in config.json) is not supported by this vLLM",
        ),
        (
            "Class validation error for validator 'validate_architecture':\n    ValueError: The hidden size (128)"
            " is not a multiple of the number of attention heads (6).",
            "config.json: The hidden size (128) is not a multiple of the number of attention heads (6).",
        ),
        (
            "Error: --enable-auto-tool-choice requires tool_parser:'nope' which has not been registered",
            "engine_args.tool_call_parser: vLLM has no parser called nope",
        ),
        (
            "Following weights were not initialized from checkpoint: {'model.layers.5.mlp.down_proj.weight', 'b'}",
            "the weights are incomplete: model.layers.5.mlp.down_proj.weight is missing",
        ),
        (
            "There is no module or parameter named 'layers.7' in LlamaModel",
            "the weights do not match config.json: the model has no layers.7",
        ),
        (
            "Attempted to load weight (torch.Size([4])) into parameter (torch.Size([5]))",
            "the weights do not match config.json: a tensor has another shape",
        ),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes", "the model does not fit"),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "the model does not fit"),
        ("Please pass the argument `trust_remote_code=True` to allow custom code", "the model brings code of its own"),
    ],
)
def test_known_failures_become_sentences(raised, sentence):
    assert said(ValueError(raised)).startswith(sentence)


def test_a_small_kv_cache_says_what_would_be_enough():
    # 128 tokens a block: 8 MiB are 4 blocks of 2 MiB, one of which vLLM holds back.
    problem = KvTooSmall(usable_bytes=6 * MIB, needed_bytes=16 * MIB, holds_tokens=384, max_model_len=1024)
    ordered = order_in(HERE, kv_bytes=8 * MIB)
    assert str(explain(problem, ordered)) == (
        "a KV cache of 8 MiB holds 384 tokens, max_model_len 1024 needs 18 MiB:"
        " raise declared.kv_cache to at least 18 MiB or lower engine_args.max_model_len to 384"
    )


def test_the_size_that_is_asked_for_is_rounded_up():
    problem = KvTooSmall(usable_bytes=MIB, needed_bytes=MIB + 1, holds_tokens=1, max_model_len=2)
    assert "at least 64.1 MiB" in str(explain(problem, order_in(HERE)))


def test_memory_errors_are_told_by_their_kind():
    assert said(MemoryError()).startswith("the model does not fit")


def test_an_engine_error_is_passed_on():
    original = EngineError("the model's folder does not exist")
    assert explain(original, order_in(HERE)) is original


class Settings(BaseModel):
    max_num_seqs: int = Field(ge=1)
    max_num_batched_tokens: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def together(self):
        if self.max_num_seqs > 100:
            raise ValueError("max_num_seqs must not be over 100")
        return self


def invalid(**given):
    try:
        Settings(**given)
    except ValidationError as problem:
        return problem
    raise AssertionError(given)


def test_of_pydantics_errors_those_are_told_that_the_card_has_caused():
    problem = invalid(max_num_seqs=-1, max_num_batched_tokens=-1)
    assert said(problem, **{"max-num-seqs": -1}) == (
        "engine_args.max_num_seqs: Input should be greater than or equal to 1"
    )
    assert said(problem).startswith("engine_args: max_num_seqs: Input should be")


def test_a_validators_own_words_are_kept_without_pydantics():
    assert said(invalid(max_num_seqs=101)) == "vLLM cannot load the model: max_num_seqs must not be over 100"


def test_a_defect_in_the_models_files_says_where():
    assert said(KeyError("rope_theta")) == (
        "vLLM cannot make sense of the model's configuration: 'rope_theta' is missing"
    )


def test_unknown_failures_keep_their_words_without_foreign_paths():
    told = said(
        RuntimeError(f"cannot open /usr/lib/python3/site-packages/vllm/x.py for {SOURCE}/config.json\n  at all")
    )
    assert told == f"vLLM cannot load the model: cannot open x.py for {SOURCE}/config.json at all"


def test_paths_that_the_card_names_are_kept():
    assert "/etc/template.jinja" in said(ValueError("no /etc/template.jinja"), chat_template="/etc/template.jinja")


@pytest.mark.parametrize(
    ("problem", "fault"),
    [
        (MemoryError(), "memory"),
        (KvTooSmall(usable_bytes=MIB, needed_bytes=MIB + 1, holds_tokens=1, max_model_len=2), "memory"),
        (ValueError("No available memory for the cache blocks"), "memory"),
        (ValueError("Following weights were not initialized from checkpoint: {'a.weight'}"), "weights"),
        (ValueError("Error while deserializing header: x"), "weights"),
        (ValueError("There is no module or parameter named 'x' in Y"), "weights"),
        (ValueError("something else"), "other"),
        (EngineError("told", "canary"), "canary"),
    ],
)
def test_what_kind_of_thing_went_wrong(problem, fault):
    assert explain(problem, order_in(HERE)).fault == fault


@given(st.text(max_size=3000), st.sampled_from([ValueError, RuntimeError, KeyError, OSError, AssertionError]))
def test_whatever_is_raised_becomes_one_short_line(text, kind):
    told = said(kind(text))
    assert told.strip()
    assert "\n" not in told
    assert len(told) < LONGEST_SENTENCE + 100
