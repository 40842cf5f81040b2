"""Whether a model and its tokenizer belong together: a token that the model has no row for would end its engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.runtimes.protocol import EngineError

# Some models were given a few tokens more than they have rows, and are never sent them. More are another model's.
FEW = 1024


def hold_to_vocabulary(llm: Any) -> None:
    """Have requests with tokens beyond the model's vocabulary refused, each with 400.

    vLLM takes whatever either of tokenizer and model knows, for the sake of placeholders of multimodal models; those
    are left alone. Raises EngineError when the tokenizer is another model's.
    """
    config, renderer = llm.model_config, llm.renderer
    tokenizer = renderer.tokenizer
    if tokenizer is None or config.is_multimodal_model:
        return
    rows = int(config.get_vocab_size())
    highest = int(tokenizer.max_token_id)
    if highest < rows:
        return
    if highest >= rows + FEW:
        raise EngineError(
            f"the tokenizer is another model's: its tokens go up to {highest}, the model knows {rows}", "weights"
        )
    validate = renderer.validate_token_ids

    def validate_against_model(token_ids: Sequence[int], *, parameter: str | None = None) -> None:
        from vllm.exceptions import VLLMValidationError

        validate(token_ids, parameter=parameter)
        if token_ids and max(token_ids) >= rows:
            raise VLLMValidationError(f"Token id {max(token_ids)} is out of vocabulary", parameter=parameter)

    renderer.validate_token_ids = validate_against_model
