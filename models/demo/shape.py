"""The families and sizes of the demo's chat models, and the configuration that transformers reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from models.demo.lanes import COLOUR_SHARE, HEAD_DIM, Lanes, width
from models.demo.tokenizer import BEGIN, CONTEXT_TOKENS, END, PAD, SPECIAL_TOKENS

ROTARY_BASE = 10_000.0


class Family(StrEnum):
    LLAMA = "llama"
    GEMMA = "gemma2"
    QWEN = "qwen3"


ARCHITECTURES = {
    Family.LLAMA: "LlamaForCausalLM",
    Family.GEMMA: "Gemma2ForCausalLM",
    Family.QWEN: "Qwen3ForCausalLM",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """``rank``: columns of the bigram table. A chat model has at least two ``kv_heads``, ``heads`` is a multiple."""

    family: Family
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    rank: int

    @property
    def tied(self) -> bool:
        """Gemma has one matrix for embedding and readout; vLLM knows it no other way."""
        return self.family is Family.GEMMA

    @property
    def lanes(self) -> Lanes:
        return Lanes.lay_out(self.hidden, self.rank, self.tied)

    @property
    def group(self) -> int:
        """Query heads per key and value head."""
        return self.heads // self.kv_heads

    @property
    def q_rows(self) -> int:
        return self.heads * HEAD_DIM

    @property
    def kv_rows(self) -> int:
        return self.kv_heads * HEAD_DIM

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of all layers in bf16."""
        return 2 * 2 * self.layers * self.kv_rows

    @property
    def random_sublayers(self) -> int:
        return 2 * self.layers - 1 - self.tied

    @property
    def colour_std(self) -> float:
        """What each random sublayer adds to a coordinate of the colour lane."""
        return float(np.sqrt(COLOUR_SHARE * self.hidden / (width(self.lanes.colour) * self.random_sublayers)))


def model_config(shape: Shape, vocabulary_size: int) -> dict[str, object]:
    """The content of config.json."""
    gemma = shape.family is Family.GEMMA
    config: dict[str, object] = {
        "architectures": [ARCHITECTURES[shape.family]],
        "model_type": shape.family.value,
        "dtype": "bfloat16",
        "vocab_size": vocabulary_size,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rope_theta": ROTARY_BASE,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "tie_word_embeddings": shape.tied,
        "hidden_activation" if gemma else "hidden_act": "gelu_pytorch_tanh" if gemma else "silu",
        **special_ids(),
    }
    if gemma:
        config |= {
            "query_pre_attn_scalar": HEAD_DIM,
            "sliding_window": CONTEXT_TOKENS,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        }
    return config


def special_ids() -> dict[str, object]:
    """The content of generation_config.json: no sampling defaults, so that what a caller leaves out is vLLM's own."""
    return {
        "bos_token_id": SPECIAL_TOKENS.index(BEGIN),
        "eos_token_id": SPECIAL_TOKENS.index(END),
        "pad_token_id": SPECIAL_TOKENS.index(PAD),
    }
