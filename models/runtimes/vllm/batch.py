"""How large a batch may be for its activations to stay within the overhead that an engine's budget has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFAULT_TOKENS = 2048  # what vLLM takes when nobody says anything
DEFAULT_SEQUENCES = 128
LEAST_TOKENS = 128
LEAST_SEQUENCES = 4
CUDA_CONTEXT_BYTES = 600 << 20  # with its kernels and workspaces; graphs come on top

# Of the widest moment of a layer, in half precision: what goes into the MLP, its two halves, their product, the result.
_PER_HIDDEN_BYTES = 2 * 4
_PER_INTERMEDIATE_BYTES = 2 * 3
# Of the readout: logits in half and in full precision, and two more of those while one token is drawn.
_PER_WORD_BYTES = 2 + 4 * 3
_TOKENS_SHARE = 0.6
# What a process holds on to, beyond what lives at once. The C heap keeps more than torch's allocator for CUDA does:
# 100 KB a token were measured where 42 live (hidden 2048, intermediate 5632).
HEAP_SLACK = 2.5
CUDA_SLACK = 1.25


def batch_limits(config: Mapping[str, Any], overhead_bytes: int, slack: float = HEAP_SLACK) -> dict[str, int]:
    """vLLM arguments that hold a batch down, where its defaults could exceed ``overhead_bytes``; empty where not.

    ``config``: the parsed config.json. Models that are not for generating text have to take a text in one piece.
    """
    text = config.get("text_config") or config
    sizes = [text.get(name) for name in ("hidden_size", "intermediate_size", "vocab_size")]
    architectures = config.get("architectures") or [""]
    if overhead_bytes <= 0 or not all(isinstance(size, int) and size > 0 for size in sizes):
        return {}
    if not str(architectures[0]).endswith(("ForCausalLM", "ForConditionalGeneration")):
        return {}
    hidden, intermediate, vocabulary = (int(size) for size in sizes if size is not None)
    per_token = slack * (hidden * _PER_HIDDEN_BYTES + intermediate * _PER_INTERMEDIATE_BYTES)
    per_sequence = vocabulary * _PER_WORD_BYTES
    tokens = int(overhead_bytes * _TOKENS_SHARE / per_token)
    sequences = int(overhead_bytes * (1 - _TOKENS_SHARE) / per_sequence)
    limits = {}
    if sequences < DEFAULT_SEQUENCES:
        limits["max_num_seqs"] = max(LEAST_SEQUENCES, sequences)
    if tokens < DEFAULT_TOKENS:
        # A step must have room for a token of each sequence.
        limits["max_num_batched_tokens"] = max(LEAST_TOKENS, limits.get("max_num_seqs", DEFAULT_SEQUENCES), tokens)
    return limits
