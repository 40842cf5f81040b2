"""The configuration of the demo, as a file that people read and change."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

SIMULATED_GPUS, SIMULATED_GPU_MIB = 2, 640


@dataclass(frozen=True, slots=True)
class DemoCard:
    """One model's entry. Its footprint in MiB is what it takes of a GPU; ``about`` becomes a comment."""

    model_id: str
    about: str
    runtime: str
    engine_args: str
    weights_mib: int
    kv_cache_mib: int
    overhead_mib: int
    max_replicas: int
    aliases: tuple[str, ...]
    at_once: int | None = None  # requests that one replica serves; None: as many as there are by default

    @property
    def footprint_mib(self) -> int:
        return self.weights_mib + self.kv_cache_mib + self.overhead_mib


# Each fits one of the simulated GPUs, and any two but tiny-qwen3 share one. All of them never fit at once: tiny-qwen3
# needs a GPU of its own, and the others are too much for the second. Calling them in turn makes the packer evict.
# The overhead is what an engine's private memory came to when it was busy, and some more: a card that says too little
# is corrected, and then other models fit beside it than are meant to.
# The strict level makes vLLM hold the arguments of tool calls to their schema, which models this small do not know.
TOOL_ARGS = "enable_auto_tool_choice: true, tool_call_parser: hermes, tool_strict_level: parameter"
CHAT_ARGS = f"{{max_model_len: 1024, {TOOL_ARGS}}}"
# tiny-llama answers so fast that nobody would see it scale: a replica of it takes four requests at a time, and a spike
# takes four of them.
LLAMA_SLOTS = 4
LLAMA_ARGS = f"{{max_model_len: 1024, max_num_seqs: {LLAMA_SLOTS}, {TOOL_ARGS}}}"
LLAMA = "an 11 MB chat model that speaks of railways"
RERANKER = "finds a query's words, and words like them, in documents; for /v1/rerank"
TOPICS = "tells railways, cooking, computing and everyday talk apart; for /classify"
PAINTER = "paints patterns in the colours of a prompt; for /v1/images/generations"
VOICE = "reads a text aloud, and is understood with goodwill; for /v1/audio/speech"
EAR = "writes down what tiny-voice says; for /v1/audio/transcriptions"
DEMO_CARDS = (
    DemoCard("tiny-llama", LLAMA, "vllm", LLAMA_ARGS, 16, 96, 112, 4, ("llama",), LLAMA_SLOTS),
    DemoCard("tiny-gemma", "a 56 MB chat model that speaks of cooking", "vllm", CHAT_ARGS, 64, 160, 160, 1, ("gemma",)),
    DemoCard("tiny-qwen3", "a 247 MB chat model on computing", "vllm", CHAT_ARGS, 256, 160, 160, 1, ("qwen",)),
    DemoCard("minilm", "a pretrained embedder, for /v1/embeddings", "torch", "{}", 96, 0, 160, 1, ("all-minilm",)),
    DemoCard("tiny-reranker", RERANKER, "torch", "{}", 8, 0, 88, 1, ("reranker",)),
    DemoCard("tiny-topics", TOPICS, "torch", "{}", 8, 0, 88, 1, ("topics",)),
    DemoCard("tiny-painter", PAINTER, "torch", "{}", 4, 0, 156, 1, ("painter",)),
    DemoCard("tiny-voice", VOICE, "torch", "{}", 1, 0, 95, 1, ("voice",)),
    DemoCard("tiny-ear", EAR, "torch", "{}", 1, 0, 103, 1, ("ear",)),
)

HEADER = """\
# The demo of Roundhouse: nine models on two simulated GPUs that have no room for all of them at once.
# Change it while the service runs: it is read again, and a file with a mistake in it changes nothing.

# On a machine with NVIDIA GPUs remove this line, and the real ones are used.
gpus: {{simulated: {count}x{size}MiB}}

models:
"""


def demo_config_text(models_root: Path) -> str:
    """The demo's roundhouse.yaml. ``models_root``: where the demo models lie, absolute or relative to that file."""
    header = HEADER.format(count=SIMULATED_GPUS, size=SIMULATED_GPU_MIB)
    return header + "\n".join(_card_text(card, models_root / card.model_id) for card in DEMO_CARDS)


def _card_text(card: DemoCard, folder: Path) -> str:
    declared = f"weights: {card.weights_mib}MiB, kv_cache: {card.kv_cache_mib}MiB, overhead: {card.overhead_mib}MiB"
    # A JSON string is a YAML string, whatever characters the path is made of.
    source = json.dumps(str(folder), ensure_ascii=False)
    target = "" if card.at_once is None else f"\n    target_in_flight: {card.at_once}  # more: another replica"
    return f"""\
  # {card.model_id}: {card.about}
  - model_id: {card.model_id}
    model_source: {source}
    runtime: {card.runtime}
    engine_args: {card.engine_args}
    declared: {{{declared}}}  # {card.footprint_mib} MiB of a GPU
    min_replicas: 0
    max_replicas: {card.max_replicas}{target}
    ttl: 10m
    aliases: [{", ".join(card.aliases)}]
"""
