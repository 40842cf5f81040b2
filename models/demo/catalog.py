"""The configuration of the demo, as a file that people read and change."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

SIMULATED_GPUS, SIMULATED_GPU_MIB = 2, 512


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

    @property
    def footprint_mib(self) -> int:
        return self.weights_mib + self.kv_cache_mib + self.overhead_mib


# Each fits one of the simulated GPUs, and any two of the small ones share one. All four never fit at once: tiny-qwen3
# needs a GPU of its own, and the other three are too much for the second. Calling them in turn makes the packer evict.
# The strict level makes vLLM hold the arguments of tool calls to their schema, which models this small do not know.
TOOL_ARGS = "enable_auto_tool_choice: true, tool_call_parser: hermes, tool_strict_level: parameter"
CHAT_ARGS = f"{{max_model_len: 1024, {TOOL_ARGS}}}"
DEMO_CARDS = (
    DemoCard("tiny-llama", "an 11 MB chat model that speaks of railways", "vllm", CHAT_ARGS, 16, 96, 64, 2, ("llama",)),
    DemoCard("tiny-gemma", "a 56 MB chat model that speaks of cooking", "vllm", CHAT_ARGS, 64, 160, 64, 1, ("gemma",)),
    DemoCard("tiny-qwen3", "a 247 MB chat model on computing", "vllm", CHAT_ARGS, 256, 160, 64, 1, ("qwen",)),
    DemoCard("minilm", "a pretrained embedder, for /v1/embeddings", "torch", "{}", 96, 0, 64, 1, ("all-minilm",)),
)

HEADER = """\
# The demo of Roundhouse: four models on two simulated GPUs that have no room for all of them at once.
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
    return f"""\
  # {card.model_id}: {card.about}
  - model_id: {card.model_id}
    model_source: {source}
    runtime: {card.runtime}
    engine_args: {card.engine_args}
    declared: {{{declared}}}  # {card.footprint_mib} MiB of a GPU
    min_replicas: 0
    max_replicas: {card.max_replicas}
    ttl: 10m
    aliases: [{", ".join(card.aliases)}]
"""
