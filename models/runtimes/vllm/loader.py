"""vLLM's load format of ours: weights mapped from a stored layout, or loaded by vLLM and stored as one.

The first start of a model, and any cold one, has vLLM read the files. What it then computes with is written to a
layout, and the engine goes on with that very file mapped, so that its canary verifies what all later starts will map.
Models whose layout is not plain (quantized, mixtures of experts, compiled) are loaded as vLLM always does.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import nn
from vllm.config import LoadConfig, ModelConfig, VllmConfig
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader
from vllm.model_executor.model_loader.utils import initialize_model, process_weights_after_loading
from vllm.utils.torch_utils import set_default_torch_dtype

from models.runtimes.vllm import linear as vllm_linear
from models.runtimes.vllm.args import LOAD_FORMAT
from models.runtimes.vllm.completeness import LoadingWatch
from models.runtimes.vllm.footprint import check_room
from models.runtimes.vllm.layout import DTYPES, Layout, LayoutWriter, find_layout, layout_key
from models.runtimes.vllm.linear import SharedLinear
from models.runtimes.vllm.models import answer_settings, facts_of, multiplying, unusual, unusual_layers
from models.runtimes.vllm.weights import LoadedWeights

PACKED: Final = ".packed"  # after a layer's name: its matrix as the shared kernels take it
SMALL_BYTES = 64 << 10  # copied rather than mapped: vLLM writes to some scales

log = logging.getLogger("roundhouse.engine")


class RoundhouseLoader(DefaultModelLoader):
    """See the module. What became of a model's weights hangs on the model as ``model.roundhouse``."""

    def __init__(self, load_config: LoadConfig) -> None:
        extra = dict(load_config.model_loader_extra_config or {})
        ours = extra.pop(LOAD_FORMAT, {})
        super().__init__(dataclasses.replace(load_config, load_format="safetensors", model_loader_extra_config=extra))
        self._folder = Path(ours["layout_dir"]) if ours.get("layout_dir") else None
        self._cold = bool(ours.get("cold"))
        self._watch: LoadingWatch | None = None

    def load_model(self, vllm_config: VllmConfig, model_config: ModelConfig, prefix: str = "") -> nn.Module:
        """Raises EngineError for files that do not fit the model, and whatever vLLM raises."""
        device = torch.device(self.load_config.device or vllm_config.device_config.device or "cpu")
        dtype: Any = model_config.dtype  # resolved from its name by now
        with set_default_torch_dtype(dtype):
            with device:
                model: Any = initialize_model(vllm_config=vllm_config, model_config=model_config, prefix=prefix)
            why = unusual(vllm_config, model_config) or unusual_layers(model)
            if why:
                loaded = LoadedWeights(why=why)
                self.load_weights(model, model_config)
                process_weights_after_loading(model, model_config, device)
            else:
                loaded = self._map(model, vllm_config, device) or self._store(model, vllm_config, device)
        model.roundhouse = loaded
        model.eval()
        return cast(nn.Module, model)

    # From the model's files

    def load_weights(self, model: nn.Module, model_config: ModelConfig) -> None:
        """vLLM's own loading, with an eye on what is read and written. Raises EngineError."""
        if model_config.quantization is not None or model_config.is_moe:
            super().load_weights(model, model_config)  # what has another form in the files than in the model
            return
        self._watch = watch = LoadingWatch(model)
        with watch:
            super().load_weights(model, model_config)
        watch.check(model)

    def get_all_weights(
        self, model_config: ModelConfig, model: nn.Module
    ) -> Generator[tuple[str, torch.Tensor], None, None]:
        weights = super().get_all_weights(model_config, model)
        yield from weights if self._watch is None else self._watch.reading(weights)

    def _store(self, model: nn.Module, vllm_config: VllmConfig, device: torch.device) -> LoadedWeights:
        """Load, choose how each layer multiplies, store that, and go on with what is stored."""
        model_config = vllm_config.model_config
        loaded = LoadedWeights(facts=facts_of(model_config), settings=answer_settings(vllm_config))
        tensors = tensors_of(model)
        loaded.weights_bytes = sum(tensor.nbytes for tensor in tensors.values())
        if device.type == "cpu":
            check_room(loaded.weights_bytes)
        self.load_weights(model, model_config)
        with _sharing(model, vllm_config, loaded, tensors):
            process_weights_after_loading(model, model_config, device)
        if self._folder is None:
            loaded.why = "there is no folder for its layout"
            return loaded
        try:
            loaded.writer = LayoutWriter(self._folder, layout_key(loaded.facts))
            packed = {f"{name}{PACKED}": linear.packed for name, linear in loaded.shared.items()}
            layout = loaded.writer.write(packed | tensors)
            if device.type == "cpu":
                _bind(model, loaded, layout)
            else:
                loaded.layout = layout
        except (OSError, ValueError) as problem:
            log.warning("the weights cannot be stored, every replica will copy them: %s", problem)
            loaded.why = "its layout cannot be stored"
            loaded.abandon()
        return loaded

    # From a layout

    def _map(self, model: nn.Module, vllm_config: VllmConfig, device: torch.device) -> LoadedWeights | None:
        """None when there is no layout that fits; the model is as it was then."""
        if self._folder is None or self._cold:
            return None
        model_config = vllm_config.model_config
        loaded = LoadedWeights(facts=facts_of(model_config), settings=answer_settings(vllm_config))
        layout = find_layout(self._folder, layout_key(loaded.facts))
        if layout is None or loaded.settings not in layout.manifest.answers:
            return None
        misfit = _misfit(tensors_of(model), layout)
        if misfit:
            log.warning("the stored layout %s is not used: %s", layout.manifest.key, misfit)
            return None
        loaded.weights_bytes = layout.manifest.weights_bytes
        try:
            _bind(model, loaded, layout)
        except OSError as problem:
            log.warning("the stored layout %s cannot be mapped: %s", layout.manifest.key, problem)
            return None
        with _sharing(model, vllm_config, loaded, {}):
            process_weights_after_loading(model, model_config, device)
        return loaded


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, those with several names once, without empty ones."""
    found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor for name, tensor in found.items() if tensor.numel()}


def _misfit(tensors: Mapping[str, torch.Tensor], layout: Layout) -> str:
    """Why a layout is not that of a model with such tensors; empty when it is."""
    for name, tensor in tensors.items():
        entry = layout.entries.get(name)
        if entry is None:
            if f"{name.removesuffix('.weight')}{PACKED}" not in layout.entries:
                return f"it lacks {name}"
        elif (entry.dtype, entry.shape) != (DTYPES.get(tensor.dtype), tuple(tensor.shape)):
            return f"its {name} has another form"
    return ""


def _bind(model: nn.Module, loaded: LoadedWeights, layout: Layout) -> None:
    """Put what the file holds in the place of what the model has. Raises OSError."""
    file, stored = layout.mapped()
    threading.Thread(target=file.populate, name="populate", daemon=True).start()
    for name, tensor in tensors_of(model).items():
        if name not in stored:
            continue
        if tensor.device.type != "cpu" or tensor.nbytes < SMALL_BYTES:
            tensor.data.copy_(stored[name], non_blocking=True)
        else:
            tensor.data = stored[name]
            loaded.how = "mapped"
    for name, packed in stored.items():
        layer = name.removesuffix(PACKED)
        if layer in loaded.shared:
            loaded.shared[layer].packed = packed
        elif layer != name:
            loaded.shared[layer] = SharedLinear(packed)
            loaded.how = "mapped"
    loaded.layout, loaded.file = layout, file


@contextmanager
def _sharing(
    model: nn.Module, vllm_config: VllmConfig, loaded: LoadedWeights, tensors: dict[str, torch.Tensor]
) -> Iterator[None]:
    """Have each layer multiply by what replicas can share: packed if it can be, as it is otherwise.

    Whatever a packed matrix replaces is taken out of ``tensors``.
    """
    names = {id(layer): name for name, layer in model.named_modules()}
    wanted = multiplying(model, vllm_config.model_config)

    def dispatch(layer: nn.Module, remove_weight: bool) -> None:
        weight: torch.Tensor = layer.weight  # type: ignore[assignment]
        if weight.ndim != 2 or weight.is_meta:
            vllm_linear.own_dispatch()(layer, remove_weight)
            return
        name = names[id(layer)]
        shared = loaded.shared.get(name)
        if wanted(layer):
            loaded.layers[name] = layer
            if shared is None and vllm_linear.can_be_packed(weight):
                shared = loaded.shared[name] = SharedLinear(vllm_linear.pack(weight))
        layer.cpu_linear = shared or vllm_linear.plain_linear  # type: ignore[assignment]
        if shared is not None and remove_weight:
            tensors.pop(f"{name}.weight", None)
            layer.weight = nn.Parameter(torch.empty(0, dtype=weight.dtype), requires_grad=False)

    with vllm_linear.choose(dispatch):
        yield
