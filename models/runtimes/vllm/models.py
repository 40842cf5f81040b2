"""What vLLM says of a model before its weights are there: whether its layout is plain, and what it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import torch
import vllm
from torch import nn
from vllm.config import CompilationMode, ModelConfig, VllmConfig
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)
from vllm.model_executor.model_loader.utils import get_architecture_class_name
from vllm.platforms import current_platform

from models.runtimes.vllm import linear as vllm_linear

PLAIN_METHODS = (UnquantizedLinearMethod, UnquantizedEmbeddingMethod)
ELSEWHERE = ("_name_or_path", "name_or_path", "transformers_version")  # of config.json: says nothing of the weights


def unusual(vllm_config: VllmConfig, model_config: ModelConfig) -> str:
    """Why a model is loaded as vLLM always does; empty for one with a plain layout."""
    if model_config is not vllm_config.model_config:
        return "it drafts for another model"
    if model_config.quantization is not None or vllm_config.quant_config is not None:
        return "it is quantized"
    if model_config.is_moe:
        return "it is a mixture of experts"
    if vllm_config.parallel_config.world_size != 1:
        return "it spans several devices"
    if current_platform.is_cpu() and vllm_config.compilation_config.mode != CompilationMode.NONE:
        return "it is compiled"
    offload = vllm_config.offload_config
    if offload.uva.cpu_offload_gb or offload.prefetch.offload_group_size:
        return "a part of it stays in host memory"
    return ""


def unusual_layers(model: nn.Module) -> str:
    """As ``unusual``, for what only the built model shows."""
    for name, layer in model.named_modules():
        method = getattr(layer, "quant_method", None)
        if isinstance(method, QuantizeMethodBase) and type(method) not in PLAIN_METHODS:
            return f"{name} has a layout of its own"
    return ""


def facts_of(model_config: ModelConfig) -> dict[str, str]:
    """Whatever a layout's content depends on, besides the files that the weights come from."""
    config: dict[str, Any] = model_config.hf_config.to_dict()
    words = json.dumps(
        {key: value for key, value in config.items() if key not in ELSEWHERE}, sort_keys=True, default=str
    )
    return {
        "vllm": vllm.__version__,
        "torch": str(torch.__version__),
        "platform": current_platform.device_type,
        "kernels": vllm_linear.kernels(),
        "architecture": get_architecture_class_name(model_config),
        "runner": f"{model_config.runner_type}/{model_config.convert_type}",
        "dtype": str(model_config.dtype).removeprefix("torch."),
        "config": hashlib.sha256(words.encode()).hexdigest()[:16],
    }


def answer_settings(vllm_config: VllmConfig) -> str:
    """What else changes what the canary says."""
    attention = getattr(vllm_config.attention_config, "backend", None)
    return "/".join(
        (
            vllm_config.model_config.logprobs_mode,
            f"kv-{vllm_config.cache_config.cache_dtype}",
            f"attention-{getattr(attention, 'name', None) or 'auto'}",
        )
    )


def multiplying(model: nn.Module, model_config: ModelConfig) -> Callable[[nn.Module], bool]:
    """Tells layers that multiply by their matrix from tables that are only looked up.

    vLLM asks for both. A table multiplies when it is the readout as well, and there is no other readout.
    """
    has_readout = any(isinstance(layer, ParallelLMHead) for layer in model.modules())
    tables_multiply = model_config.runner_type == "generate" and not has_readout

    def wanted(layer: nn.Module) -> bool:
        if isinstance(layer, VocabParallelEmbedding) and not isinstance(layer, ParallelLMHead):
            return tables_multiply
        return True

    return wanted
