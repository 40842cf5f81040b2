"""What the canary says, and what it makes of another answer."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vllm.v1.engine import EngineCoreOutput, FinishReason
from vllm.v1.outputs import LogprobsLists, LogprobsTensors

from models.runtimes.protocol import EngineError
from models.runtimes.vllm.canary import ON_CUDA, Answer, Canary, prompt_of

pytestmark = pytest.mark.anyio

ANSWER = Answer(
    best=(5, 9, 2),
    second=(6, 7, 8),
    best_logprobs=(-0.5, -1.0, -2.0),
    second_logprobs=(-3.0, -1.01, -9.0),
    given=(-11.0, -4.0, -2.0),
)
changed = msgspec.structs.replace


def test_the_same_answer_is_right():
    assert ANSWER.difference(ANSWER) == ""


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (changed(ANSWER, best=(5, 9, 3)), "1 of 6"),
        (changed(ANSWER, best=(6, 9, 2)), "1 of 6"),
        (changed(ANSWER, best_logprobs=(-0.5, -1.0, -2.2)), "1 of 6"),
        (changed(ANSWER, given=(-12.0, -5.0, -2.0)), "2 of 6"),
        (changed(ANSWER, best_logprobs=(float("nan"), -1.0, -2.0)), "it computes no numbers"),
        (changed(ANSWER, given=(float("-inf"), -4.0, -2.0)), "it computes no numbers"),
        (changed(ANSWER, best=(5, 9), best_logprobs=(-0.5, -1.0), given=(-11.0, -4.0)), "it answers in another form"),
        (Answer(vector=(1.0,)), "it answers in another form"),
        (Answer(), "it computes no numbers"),
    ],
)
def test_another_answer_is_wrong(found, said):
    assert said in ANSWER.difference(found)


def test_two_that_are_nearly_as_likely_may_change_places():
    assert ANSWER.difference(changed(ANSWER, best=(5, 7, 2))) == ""


def test_a_device_that_chooses_its_kernels_may_differ_more():
    found = changed(ANSWER, best_logprobs=(-0.6, -1.1, -2.2))
    assert ANSWER.difference(found)
    assert ANSWER.difference(found, ON_CUDA) == ""


@given(st.lists(st.floats(-0.04, 0.04), min_size=6, max_size=6))
def test_what_kernels_differ_by_raises_no_alarm(noise):
    found = changed(
        ANSWER,
        best_logprobs=tuple(a + b for a, b in zip(ANSWER.best_logprobs, noise[:3], strict=True)),
        given=tuple(a + b for a, b in zip(ANSWER.given, noise[3:], strict=True)),
    )
    assert ANSWER.difference(found) == ""


def test_vectors_are_compared_by_their_largest_number():
    expected = Answer(vector=(1.0, -0.5, 0.01))
    assert expected.difference(Answer(vector=(1.01, -0.52, 0.0))) == ""
    assert "another vector" in expected.difference(Answer(vector=(1.0, -0.6, 0.01)))


def test_the_prompt_is_the_same_every_time_and_avoids_what_stands_for_an_image():
    prompt = prompt_of(32_000, 4)
    assert prompt == prompt_of(32_000, 4)
    assert len(set(prompt)) == 4
    assert not set(prompt_of(32_000, 4, avoided=prompt)) & set(prompt)
    assert prompt_of(2, 4) in ([0, 1], [1, 0])
    assert prompt_of(1, 4, avoided=[0]) == [0]


class Core:
    """Answers as vLLM's core does; ``shift`` is added to what it computes."""

    def __init__(self, shift=0.0, finish=FinishReason.LENGTH, problem=None):
        self.shift = shift
        self.finish = finish
        self.problem = problem
        self.asked = []

    async def ask(self, request, most_steps):
        self.asked.append(request)
        if self.problem is not None:
            raise self.problem
        if request.pooling_params is not None:
            vector = torch.linspace(-1, 1, 400) + self.shift
            return [EngineCoreOutput(request.request_id, [], pooling_output=vector, finish_reason=self.finish)]
        rows = len(request.prompt_token_ids) - 1
        ids = torch.arange(3).repeat(rows, 1)
        numbers = torch.tensor([-9.0, -0.1, -4.0]).repeat(rows, 1) + self.shift
        prompt = LogprobsTensors(ids, numbers, torch.zeros(rows))
        new = LogprobsLists(np.array([[1, 1, 2]]), np.array([[-0.1, -0.1, -4.0]]) + self.shift, np.array([0]))
        output = EngineCoreOutput(
            request.request_id,
            [1],
            new_logprobs=new,
            new_prompt_logprobs_tensors=prompt,
            finish_reason=self.finish,
        )
        return [output]


class Config(SimpleNamespace):
    def to_dict(self):
        return {"image_token_id": 7, "eos_token_id": [1, 2], "bos_token_id": 0}


def canary(core, tasks=("generate",), expected=None, max_model_len=2048):
    model = SimpleNamespace(
        max_model_len=max_model_len, get_vocab_size=lambda: 1000, hf_config=Config(), pooler_config=None
    )
    return Canary(SimpleNamespace(engine_core=core, model_config=model), tasks, expected)


async def test_the_first_answer_is_what_is_expected_from_then_on():
    core = Core()
    asked = canary(core)
    await asked.check()
    assert asked.expected is not None
    assert asked.expected.best == (1, 1, 1, 1)
    assert asked.expected.given == (-9.0, -9.0, -9.0, -0.1)
    await asked.check()
    core.shift = -0.5
    with pytest.raises(EngineError, match="does not compute what it did") as told:
        await asked.check()
    assert told.value.fault == "canary"


async def test_every_question_is_the_same():
    core = Core()
    asked = canary(core)
    await asked.check()
    await asked.check()
    assert core.asked[0].prompt_token_ids == core.asked[1].prompt_token_ids
    assert len(core.asked[0].prompt_token_ids) == 4
    assert 7 not in core.asked[0].prompt_token_ids
    assert core.asked[0].cache_salt


async def test_a_short_context_makes_a_short_question():
    core = Core()
    await canary(core, max_model_len=3).check()
    assert len(core.asked[0].prompt_token_ids) == 2


async def test_a_pooling_model_is_asked_for_a_vector():
    asked = canary(Core(), ("embed",))
    await asked.check()
    assert asked.expected is not None
    assert len(asked.expected.vector) == 256


async def test_a_model_that_computes_no_numbers_is_refused_at_once():
    with pytest.raises(EngineError, match="the weights make no sense") as told:
        await canary(Core(shift=float("nan"))).check()
    assert told.value.fault == "weights"


@pytest.mark.parametrize(
    "core", [Core(finish=FinishReason.ERROR), Core(problem=RuntimeError("no"))], ids=["end", "raise"]
)
async def test_an_engine_that_gives_no_answer_where_one_is_expected_fails(core):
    with pytest.raises(EngineError) as told:
        await canary(core, expected=ANSWER).check()
    assert told.value.fault == "canary"
    assert "no answer" in str(told.value) or "broke" in str(told.value)


async def test_a_model_that_cannot_be_asked_is_not_asked_again(caplog):
    core = Core(problem=ValueError("this model takes no text"))
    asked = canary(core)
    await asked.check()
    await asked.check()
    assert not asked.able
    assert len(core.asked) == 1
    assert "cannot be asked" in caplog.text
