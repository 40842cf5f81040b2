"""Puts a loaded class, its batcher and the application of its task together."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from weakref import WeakSet

from models.runtimes.protocol import EngineOrder
from models.runtimes.torch.arguments import Arguments
from models.runtimes.torch.batcher import Batcher
from models.runtimes.torch.device_weights import DeviceWeights, weight_owners
from models.runtimes.torch.engine import Parts, TorchEngine
from models.runtimes.torch.load import Loaded
from models.runtimes.torch.tasks import find_task


def assemble(
    order: EngineOrder,
    arguments: Arguments,
    loaded: Loaded,
    thread: ThreadPoolExecutor,
    living: WeakSet[TorchEngine],
) -> TorchEngine:
    """Raises EngineError when no endpoint serves the class's task."""
    began_s = time.monotonic()
    hooks, model = loaded.hooks, loaded.model
    build = find_task(model.task, loaded.name)
    batcher = Batcher(
        model.predict,
        thread,
        hooks.limits,
        name=loaded.name,
        batch_key=hooks.batch_key,
        stream=hooks.stream,
        on_cancel=hooks.on_cancel,
    )
    owners, device, sleeper = weight_owners(model, loaded.weights.bound), loaded.weights.device, None
    weights = DeviceWeights(owners, device)
    if loaded.place is not None:
        from models.cuda.module_weights import PlacedWeights
        from models.cuda.sleep import for_torch

        weights = PlacedWeights(owners, device, loaded.place)
        sleeper = partial(for_torch, weights, loaded.place, arguments.sleep)
    parts = Parts(
        name=loaded.name,
        task=model.task,
        app=build(model, batcher, order.served_names),
        batcher=batcher,
        thread=thread,
        timeout_s=arguments.predict_timeout,
        weights=weights,
        mapped_bytes=weights.mapped_bytes(loaded.weights.mapped()),
        canary=loaded.canary,
        example=loaded.example,
        sleeper=sleeper,
        release=loaded.place.close if loaded.place is not None else None,
    )
    return TorchEngine(order, parts, {**loaded.timings_s, "app": time.monotonic() - began_s}, living)
