"""Whether an engine computes what it computed when its weights were first loaded.

One prompt of random token ids goes through vLLM's own core, as any request does once it is tokenized. Its one forward
pass gives the likeliest token, and how likely it is, at every position of the prompt and for the token after it.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from models.runtimes.protocol import EngineError

log = logging.getLogger("roundhouse.engine")

SEED = 20_411
PROMPT_TOKENS = 4  # every matrix takes part for any number, and so few cost one decoding step
MOST_STEPS = 64  # the answer takes two
REQUEST_ID = "roundhouse-canary"
VECTOR_NUMBERS = 256

VECTOR_TOLERANCE = 0.05  # of the largest number of a pooled vector


class Tolerance(NamedTuple):
    """By how much a log probability may differ: in itself, and by a share of its size."""

    plain: float
    share: float


# The same kernels give the same numbers, whatever the number of threads; between vLLM's kernels for the CPU, 0.016 is
# the most that was measured.
ON_CPU = Tolerance(0.05, 0.01)
# A device may choose among kernels, and a large logit in bfloat16 has steps of an eighth.
ON_CUDA = Tolerance(0.25, 0.05)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the canary says: for each position the best token, the second best, and log probabilities.

    ``given``: those of the prompt's own tokens. ``vector``: instead of tokens, the first numbers that a pooling model
    gives.
    """

    best: tuple[int, ...] = ()
    second: tuple[int, ...] = ()
    best_logprobs: tuple[float, ...] = ()
    second_logprobs: tuple[float, ...] = ()
    given: tuple[float, ...] = ()
    vector: tuple[float, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether there is something in it, and nothing but numbers."""
        numbers = (*self.best_logprobs, *self.second_logprobs, *self.given, *self.vector)
        return bool(numbers) and all(map(math.isfinite, numbers))

    def difference(self, found: Answer, tolerance: Tolerance = ON_CPU) -> str:
        """What is wrong with ``found``, where this is expected; empty when it is as good as equal."""
        if not found.is_sound:
            return "it computes no numbers"
        if (len(self.best), len(self.vector)) != (len(found.best), len(found.vector)):
            return "it answers in another form"
        if self.vector:
            largest = max(map(abs, self.vector))
            if any(abs(a - b) > VECTOR_TOLERANCE * largest for a, b in zip(self.vector, found.vector, strict=True)):
                return "it computes another vector"
            return ""
        wrong = sum(not self._agrees(found, position, tolerance) for position in range(len(self.best)))
        wrong += sum(not _close(a, b, tolerance) for a, b in zip(self.given, found.given, strict=True))
        return f"{wrong} of {len(self.best) + len(self.given)} values are others" if wrong else ""

    def _agrees(self, found: Answer, position: int, tolerance: Tolerance) -> bool:
        expected = self.best_logprobs[position]
        if not _close(expected, found.best_logprobs[position], tolerance):
            return False
        if self.best[position] == found.best[position]:
            return True
        # Two that are nearly as likely may change places.
        return _close(expected, self.second_logprobs[position], tolerance)


def _close(expected: float, found: float, tolerance: Tolerance) -> bool:
    return abs(expected - found) <= tolerance.plain + tolerance.share * abs(expected)


def prompt_of(vocabulary: int, length: int, avoided: Sequence[int] = ()) -> list[int]:
    """``length`` token ids, always the same ones; ``avoided``: those that stand for an image or the like."""
    rng = random.Random(SEED)
    allowed = rng.sample(range(vocabulary), min(vocabulary, length + len(avoided)))
    chosen = [token for token in allowed if token not in avoided][:length]
    return chosen or [0]


class Canary:
    """Asks one engine and knows what it should answer. ``expected`` None: the first answer is what is expected."""

    def __init__(
        self, llm: Any, tasks: Sequence[str], expected: Answer | None = None, tolerance: Tolerance = ON_CPU
    ) -> None:
        self.expected = expected
        self.able = True  # to answer; some models cannot
        self.took_s = 0.0
        self._llm = llm
        self._tasks = tuple(tasks)
        self._tolerance = tolerance

    async def learn(self) -> Answer | None:
        """The answer, expected from now on; None for a model that has none."""
        try:
            answer = await self.ask()
        except Exception:  # whatever vLLM raises at a request that this kind of model does not take
            log.exception("the canary cannot be asked: its model is not verified when it wakes")
            self.able = False
            return None
        if not answer.is_sound:
            raise EngineError("the weights make no sense: the model computes no numbers from them", "weights")
        self.expected = answer
        return answer

    async def check(self) -> None:
        """Raises EngineError with the fault "canary"."""
        if not self.able:
            return
        if self.expected is None:
            await self.learn()
            return
        try:
            difference = self.expected.difference(await self.ask(), self._tolerance)
        except EngineError:
            raise
        except Exception as problem:
            log.exception("the canary broke")
            raise EngineError("the engine broke when it was verified before it served", "canary") from problem
        if difference:
            raise EngineError(
                f"the engine does not compute what it did when its weights were first loaded ({difference})", "canary"
            )

    async def ask(self) -> Answer:
        """Raises EngineError, and whatever vLLM raises."""
        began_s = time.monotonic()
        outputs = await self._llm.engine_core.ask(self._request(), MOST_STEPS)
        self.took_s = time.monotonic() - began_s
        return _answer_in(outputs)

    def _request(self) -> Any:
        from vllm.v1.engine import EngineCoreRequest

        model = self._llm.model_config
        length = max(1, min(PROMPT_TOKENS, model.max_model_len - 1))
        sampling, pooling = self._parameters()
        return EngineCoreRequest(
            request_id=REQUEST_ID,
            prompt_token_ids=prompt_of(model.get_vocab_size(), length, _special_ids(model.hf_config)),
            mm_features=None,
            sampling_params=sampling,
            pooling_params=pooling,
            arrival_time=time.time(),
            lora_request=None,
            cache_salt=REQUEST_ID,  # no other request may find its prefix
            data_parallel_rank=None,
        )

    def _parameters(self) -> tuple[Any, Any]:
        from vllm import PoolingParams, SamplingParams

        if "generate" in self._tasks:
            return SamplingParams(temperature=0, max_tokens=1, logprobs=2, prompt_logprobs=2, ignore_eos=True), None
        task: Any = self._tasks[0]
        pooling = PoolingParams(task=task, skip_reading_prefix_cache=True)
        pooling.verify(self._llm.model_config)
        return None, pooling


def _special_ids(config: Any) -> list[int]:
    """Tokens that config.json names: some stand for an image that is not there."""
    named = config.to_dict() if hasattr(config, "to_dict") else {}
    return [value for key, value in named.items() if key.endswith(("_token_id", "_token_index")) and type(value) is int]


def _answer_in(outputs: Sequence[Any]) -> Answer:
    """Raises EngineError when the request did not end well."""
    if not outputs or str(outputs[-1].finish_reason) not in ("length", "stop"):
        raise EngineError("the engine gave no answer when it was verified before it served", "canary")
    rows: list[tuple[list[int], list[float]]] = []  # ids and log probabilities: of the token, the best, the second
    for output in outputs:
        if output.pooling_output is not None:
            numbers = output.pooling_output.float().reshape(-1)[:VECTOR_NUMBERS].tolist()
            return Answer(vector=tuple(numbers))
        prompt, new = output.new_prompt_logprobs_tensors, output.new_logprobs
        for part in (prompt, new):
            if part is not None:
                rows += zip(part.logprob_token_ids.tolist(), part.logprobs.tolist(), strict=True)
    return Answer(
        best=tuple(ids[1] for ids, _ in rows),
        second=tuple(ids[2] for ids, _ in rows),
        best_logprobs=tuple(round(numbers[1], 4) for _, numbers in rows),
        second_logprobs=tuple(round(numbers[2], 4) for _, numbers in rows),
        given=tuple(round(numbers[0], 4) for _, numbers in rows),
    )
