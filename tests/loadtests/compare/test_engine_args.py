"""Engine arguments, written as each starter wants them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.compare.engine_args import EngineArgs, context_of, engine_args, words


def test_names_alone_are_switched_on() -> None:
    args = engine_args("enforce_eager, max_model_len=1024,enable_prefix_caching=false,gpu_memory_utilization=0.5")
    assert args == {
        "enforce_eager": True,
        "max_model_len": 1024,
        "enable_prefix_caching": False,
        "gpu_memory_utilization": 0.5,
    }


def test_words_are_vllms_options() -> None:
    args: EngineArgs = {
        "enforce_eager": True,
        "max_model_len": 1024,
        "enable_prefix_caching": False,
        "dtype": "float32",
    }
    assert words(args) == [
        *("--enforce-eager", "--max-model-len", "1024", "--no-enable-prefix-caching", "--dtype", "float32"),
    ]


def test_nothing_is_nothing() -> None:
    assert engine_args("") == {}
    assert words({}) == []


@pytest.mark.parametrize("text", ["--enforce-eager", "max_model_len=", "Max=1", "=3", "a b"])
def test_what_is_no_argument_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be like enforce_eager,max_model_len=1024"):
        engine_args(text)


@pytest.mark.parametrize(
    ("text", "context"), [("max_model_len=64", 64), ("enforce_eager", None), ("max_model_len=auto", None)]
)
def test_the_context_that_prompts_must_fit(text: str, context: int | None) -> None:
    assert context_of(engine_args(text)) == context


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True), st.integers(0, 10**6) | st.booleans()))
def test_what_was_written_is_read_again(args: dict[str, int | bool]) -> None:
    text = ",".join(f"{name}={str(value).lower()}" for name, value in args.items())
    assert engine_args(text) == args
