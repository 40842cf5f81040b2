"""The launcher's check of what the fast path computes, and the plain Llama that it is held against."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.demo.make import make_warmup_model
from models.runtimes.protocol import EngineError
from models.runtimes.vllm import probe as vllm_probe
from models.runtimes.vllm.llama_reference import LlamaReference
from models.runtimes.vllm.probe import NEW_TOKENS, PROMPT, why_wrong

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_warmup_model(tmp_path_factory.mktemp("warm"))


@pytest.fixture(scope="module")
def reference(folder):
    return LlamaReference(folder)


@pytest.fixture(scope="module")
def right(reference):
    """What an engine should answer."""
    return answered(reference, PROMPT)


def answered(reference, prompt):
    """What an engine would answer that saw this prompt instead of the one it was given."""
    tokens: list[int] = []
    logprobs = []
    for _ in range(NEW_TOKENS):
        row = reference.logprobs((*prompt, *tokens))[-1]
        tokens.append(int(row.argmax()))
        logprobs.append(float(row.max()))
    return {"choices": [{"token_ids": tokens, "logprobs": {"token_logprobs": logprobs}}]}


def changed(answer, **changes):
    choice = {**answer["choices"][0], **changes}
    return {"choices": [choice]}


def test_the_reference_computes_what_transformers_computes(folder, reference):
    import torch
    from transformers import AutoModelForCausalLM

    tokens = [*PROMPT, 7, 7, 3000]
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits = theirs(torch.tensor([tokens])).logits[0]
    np.testing.assert_allclose(reference.logprobs(tokens), torch.log_softmax(logits, -1).numpy(), atol=1e-3)


def test_the_right_answer_passes(reference, right):
    assert why_wrong(right, reference) == ""


def test_rounding_passes(reference, right):
    logprobs = [value + 0.05 for value in right["choices"][0]["logprobs"]["token_logprobs"]]
    assert why_wrong(changed(right, logprobs={"token_logprobs": logprobs}), reference) == ""


@pytest.mark.parametrize(
    "seen",
    [PROMPT[1:], PROMPT[-1:], PROMPT[::-1], (*PROMPT[:5], 0, *PROMPT[6:])],
    ids=["first token lost", "cache not read", "order lost", "one token wrong"],
)
def test_an_engine_that_has_seen_something_else_fails(reference, seen):
    assert why_wrong(answered(reference, seen), reference)


def test_a_wrong_token_is_named(reference, right):
    tokens = list(right["choices"][0]["token_ids"])
    expected, tokens[2] = tokens[2], (tokens[2] + 1) % 3000
    said = why_wrong(changed(right, token_ids=tokens), reference)
    assert said == f"token 3 is {tokens[2]}, where {expected} is the likeliest"


@pytest.mark.parametrize("value", [None, float("nan"), float("-inf")])
def test_what_is_no_number_fails(reference, right, value):
    logprobs = [value] * NEW_TOKENS
    said = why_wrong(changed(right, logprobs={"token_logprobs": logprobs}), reference)
    assert said == "the probability of token 1 is no number"


def test_too_few_tokens_fail(reference, right):
    assert why_wrong(changed(right, token_ids=[1]), reference) == f"1 tokens, where {NEW_TOKENS} were asked for"


async def test_the_probe_asks_and_raises_what_is_wrong(folder, right):
    asked = []

    def answering(status, document):
        async def app(scope, receive, send):
            asked.append((scope["path"], json.loads((await receive())["body"])))
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": json.dumps(document).encode()})

        return app

    await vllm_probe.check(answering(200, right), "warm", folder)
    path, body = asked[0]
    assert (path, body["model"], body["prompt"], body["temperature"]) == ("/v1/completions", "warm", list(PROMPT), 0)
    with pytest.raises(EngineError, match="answered with 500"):
        await vllm_probe.check(answering(500, {}), "warm", folder)
    with pytest.raises(EngineError, match="computed something wrong: 1 tokens"):
        await vllm_probe.check(answering(200, changed(right, token_ids=[1])), "warm", folder)
