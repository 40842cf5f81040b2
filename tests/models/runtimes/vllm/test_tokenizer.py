"""A model and a tokenizer that do not belong together, with vLLM's own renderer in the middle."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from vllm.exceptions import VLLMValidationError
from vllm.renderers.base import BaseRenderer

from models.runtimes.protocol import EngineError
from models.runtimes.vllm.tokenizer import FEW, hold_to_vocabulary


class Renderer:
    """vLLM's check on a tokenizer that is but a number."""

    validate_token_ids = BaseRenderer.validate_token_ids

    def __init__(self, config, highest):
        self.model_config = config
        self.tokenizer = None if highest is None else SimpleNamespace(max_token_id=highest)


def llm(highest, rows=100, multimodal=False):
    config = SimpleNamespace(get_vocab_size=lambda: rows, is_multimodal_model=multimodal)
    return SimpleNamespace(model_config=config, renderer=Renderer(config, highest))


def test_a_tokenizer_with_fewer_tokens_than_the_model_has_rows_is_fine():
    engine = llm(highest=60)
    hold_to_vocabulary(engine)
    engine.renderer.validate_token_ids([99])
    with pytest.raises(VLLMValidationError, match="Token id 100"):
        engine.renderer.validate_token_ids([100])


def test_a_few_tokens_too_many_are_refused_one_request_at_a_time():
    engine = llm(highest=104)
    engine.renderer.validate_token_ids([104])  # as vLLM has it: the engine would end
    hold_to_vocabulary(engine)
    engine.renderer.validate_token_ids([99])
    engine.renderer.validate_token_ids([])
    with pytest.raises(VLLMValidationError, match="Token id 104 is out of vocabulary"):
        engine.renderer.validate_token_ids([1, 104, 2], parameter="prompt")


def test_another_models_tokenizer_is_named():
    with pytest.raises(EngineError, match=r"is another model's: its tokens go up to \d+, the model knows 100") as told:
        hold_to_vocabulary(llm(highest=100 + FEW))
    assert told.value.fault == "weights"


def test_placeholders_of_multimodal_models_and_no_tokenizer_at_all_are_left_alone():
    hold_to_vocabulary(llm(highest=None))
    engine = llm(highest=100_000, multimodal=True)
    hold_to_vocabulary(engine)
    engine.renderer.validate_token_ids([100_000])
