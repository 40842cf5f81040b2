"""Whether the fast path computes the right thing: the launcher's warm-up model against a plain one in numpy.

What a new vLLM may break without raising anything is found here: a cache that is not read, weights in another order.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from models.runtimes.asgi_call import ask_app
from models.runtimes.protocol import Asgi, EngineError
from models.runtimes.vllm.llama_reference import LlamaReference

PROMPT = tuple(range(40, 52))
NEW_TOKENS = 6
# Of a log probability, which lies between -4 and -9 for this model: bfloat16 has 8 bits. The largest difference
# measured was 0.02; a wrong token is off by 3 or more.
TOLERANCE = 0.25


async def check(app: Asgi, model: str, folder: Path) -> None:
    """Have ``app`` continue a prompt. Raises EngineError when it cannot or the tokens are wrong."""
    body = {
        "model": model,
        "prompt": list(PROMPT),
        "max_tokens": NEW_TOKENS,
        "temperature": 0,
        "logprobs": 1,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    status, said = await ask_app(app, "/v1/completions", body)
    if status != 200:
        raise EngineError(f"its warm-up's completion was answered with {status}")
    problem = why_wrong(json.loads(said), LlamaReference(folder))
    if problem:
        raise EngineError(f"its warm-up computed something wrong: {problem}")


def why_wrong(answer: dict[str, Any], reference: LlamaReference) -> str:
    """What is wrong with vLLM's answer; empty when it is right.

    Each token is judged by what the reference expects after the tokens before it, so that one choice between two nearly
    equal ones does not make all that follow wrong.
    """
    choice = answer["choices"][0]
    tokens, logprobs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
    if len(tokens) != NEW_TOKENS or len(logprobs) != NEW_TOKENS:
        return f"{len(tokens)} tokens, where {NEW_TOKENS} were asked for"
    expected = reference.logprobs((*PROMPT, *tokens))[len(PROMPT) - 1 : -1]
    for place, (token, said, row) in enumerate(zip(tokens, logprobs, expected, strict=True), start=1):
        if said is None or not math.isfinite(said):
            return f"the probability of token {place} is no number"
        if row[token] < row.max() - TOLERANCE:
            return f"token {place} is {token}, where {int(row.argmax())} is the likeliest"
        if abs(said - row[token]) > TOLERANCE:
            return f"the log probability of token {place} is {said:.2f}, where it should be {row[token]:.2f}"
    return ""
