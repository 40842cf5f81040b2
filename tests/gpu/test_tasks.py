"""The shipped classes on a real GPU: they compute what they compute on the CPU, before and after a sleep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from models.demo.make import make_demo_models
from models.runtimes.model_folder import read_config
from models.runtimes.tasks.defaults import default_class
from models.runtimes.torch.device_weights import DeviceWeights
from models.runtimes.torch.hooks import make_model
from models.runtimes.torch.weights import Weights

pytestmark = pytest.mark.gpu

# How far apart numbers may be: what is stored in bf16 is computed in it.
APART = {"minilm": 1e-3, "tiny-reranker": 0.05, "tiny-topics": 0.05, "tiny-painter": 4, "tiny-voice": 0.02}


def numbers(output: Any) -> np.ndarray[Any, Any]:
    """Of an output of any task."""
    for name in ("vector", "value", "probabilities", "pixels", "samples"):
        if hasattr(output, name):
            return np.asarray(getattr(output, name), dtype=np.float64).ravel()
    raise AssertionError(output)


@pytest.mark.parametrize("name", APART)
def test_a_gpu_computes_what_the_cpu_does_and_so_it_does_after_a_sleep(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / "models"
    make_demo_models(root, only=[name], progress=print)
    class_name = default_class(read_config(root / name))
    assert class_name is not None
    found = []
    for kind in ("cpu", "cuda"):
        device = torch.device(kind)
        model: Any = make_model(class_name)
        weights = Weights(root / name, device)
        model.load(device, weights)
        with torch.inference_mode():
            found.append(numbers(model.predict([model.example()])[0]))
    assert np.abs(found[0] - found[1]).max() <= APART[name]
    on_device = DeviceWeights(weights.bound, torch.device("cuda"))
    on_device.to_host()
    assert {parameter.device.type for module in weights.bound for parameter in module.parameters()} == {"cpu"}
    on_device.to_device()
    with torch.inference_mode():
        again = numbers(model.predict([model.example()])[0])
    assert np.array_equal(again, found[1])
