"""One measurement in a process of its own: ``python -m loadtests.gpu.subjects NAME ...`` prints one line of JSON.

A process each, because CUDA's context, its libraries and torch's caches of one measurement would be in the next.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

WIDTH = 4096
SETTLE_S = 0.2  # for the driver's books
GIB = 1 << 30


def stack_in(folder: Path, size_bytes: int) -> Path:
    """A safetensors file of about ``size_bytes``: square layers of bfloat16, at least one."""
    import torch
    from safetensors.torch import save_file

    width = WIDTH if size_bytes >= 4 * 2 * WIDTH * WIDTH else 1024
    count = max(1, size_bytes // (2 * width * width))
    random = torch.Generator().manual_seed(7)
    layer = torch.randn(width, width, generator=random).to(torch.bfloat16)
    layers = {f"{number:04}.weight": layer.roll(number, 0) for number in range(count)}
    path = folder / "model.safetensors"
    save_file(layers, path)
    return path


def stack_of(path: Path) -> Any:
    """The module over the mapped file, on the CPU; nothing is copied."""
    import torch
    from safetensors.torch import load_file

    layers = load_file(path)
    made = []
    for name in sorted(layers):
        wide, high = layers[name].shape
        linear = torch.nn.Linear(high, wide, bias=False, device="meta")
        linear.weight = torch.nn.Parameter(layers[name], requires_grad=False)
        made.append(linear)
    return torch.nn.Sequential(*made)


def answer(module: Any) -> list[float]:
    """What the module makes of one fixed input: equal bit by bit as long as its weights are."""
    import torch

    width = module[0].in_features
    given = torch.linspace(-1, 1, width, device="cuda", dtype=torch.bfloat16).expand(8, width).contiguous()
    with torch.inference_mode():
        for layer in module:
            given = layer(given)
            given = given / given.abs().amax()  # hundreds of layers would leave bfloat16's range
        return [float(value) for value in given[0, :16]]


def bandwidth(options: argparse.Namespace) -> dict[str, Any]:
    from models.cuda.bandwidth import measure_all
    from models.cuda.torch_calls import TorchCalls

    found = measure_all(TorchCalls(), options.folder, options.bytes, options.passes)
    return {one.kind: {"bytes_per_s": one.bytes_per_s, "passes": one.passes, "why": one.why} for one in found}


def wake(options: argparse.Namespace) -> dict[str, Any]:
    """``--from pool`` does without the mapped file, as on a GPU that cannot read one."""
    import torch

    from models.cuda.flat import FlatWeights
    from models.cuda.pinned import PinnedPool
    from models.cuda.torch_calls import TorchCalls

    path = stack_in(options.folder, options.bytes)
    calls = TorchCalls()
    began_s = time.perf_counter()
    module = stack_of(path)
    nothing: Callable[[], tuple[Any, ...]] = tuple
    mapped = {} if options.source == "file" else {"mappings": nothing}
    weights = FlatWeights([module], calls, PinnedPool(calls), **mapped)
    kept_s = time.perf_counter()
    weights.resume()
    told: dict[str, Any] = {
        "bytes": weights.size_bytes,
        "kept": weights.kept,
        "prepare_s": kept_s - began_s,
        "first_s": time.perf_counter() - kept_s,
        "wake_s": [],
        "suspend_s": [],
        "phases_s": [],
        "freed_bytes": [],
    }
    before = answer(module)
    for _ in range(options.passes):
        torch.cuda.synchronize()
        free_bytes = calls.free_bytes()
        began_s = time.perf_counter()
        weights.suspend()
        told["suspend_s"].append(time.perf_counter() - began_s)
        told["freed_bytes"].append(calls.free_bytes() - free_bytes)
        began_s = time.perf_counter()
        weights.resume()
        torch.cuda.synchronize()
        told["wake_s"].append(time.perf_counter() - began_s)
        told["phases_s"].append(dict(weights.timings_s))
    told["equal"] = answer(module) == before
    return told


def residue(options: argparse.Namespace) -> dict[str, Any]:
    """What the driver says that this process holds, step by step."""
    import torch

    from models.cuda.flat import FlatWeights
    from models.cuda.pinned import PinnedPool
    from models.cuda.torch_calls import TorchCalls

    path = stack_in(options.folder, options.bytes)
    torch.empty(1, device="cuda")
    told: dict[str, Any] = {"context": held_bytes()}
    calls = TorchCalls()
    module = stack_of(path)
    weights = FlatWeights([module], calls, PinnedPool(calls))
    weights.resume()
    told["loaded"] = held_bytes()
    answer(module)
    told["used"] = held_bytes()
    weights.suspend()
    told["asleep"] = held_bytes()
    told["weights"] = weights.size_bytes
    told["libraries"] = told["used"] - told["loaded"] if told["used"] is not None else None
    return told


def ledger(options: argparse.Namespace) -> dict[str, Any]:
    """An engine's own account of itself (weights, and the context that was measured alone) against the driver's."""
    told = residue(options)
    if told["used"] is None:
        return {"why": "the driver does not tell what a process holds"}
    expected_bytes = told["weights"] + told["context"] + told["libraries"]
    return {
        "ledger_bytes": expected_bytes,
        "nvml_bytes": told["used"],
        "off": told["used"] / expected_bytes - 1,
        "listed": told["context"] > 0,
    }


async def checkpoint(options: argparse.Namespace) -> dict[str, Any]:
    """There and back without residue; what a plain sleep would have left is told beside it."""
    from models.cuda.checkpoint import CheckpointTier, Helper
    from models.cuda.flat import FlatWeights
    from models.cuda.pinned import PinnedPool
    from models.cuda.torch_calls import TorchCalls

    path = stack_in(options.folder, options.bytes)
    calls = TorchCalls()
    module = stack_of(path)
    weights = FlatWeights([module], calls, PinnedPool(calls))
    weights.resume()
    before = answer(module)
    tier = CheckpointTier(Helper(), held_now)
    told: dict[str, Any] = {"bytes": weights.size_bytes, "kept": weights.kept, "passes": []}
    for _ in range(options.passes):
        began_s = time.perf_counter()
        weights.suspend()
        asleep_bytes = held_bytes()
        slept_s = time.perf_counter()
        await tier.suspend()
        away_s = time.perf_counter()
        away_bytes = held_bytes()
        returning_s = time.perf_counter()
        await tier.resume()
        weights.resume()
        told["passes"].append(
            {
                "asleep_bytes": asleep_bytes,
                "away_bytes": away_bytes,
                "suspend_s": slept_s - began_s,
                "checkpoint_s": away_s - slept_s,
                "wake_s": time.perf_counter() - returning_s,
                "phases_s": {**tier.timings_s, **weights.timings_s},
            }
        )
    told["equal"] = answer(module) == before
    await tier.close()
    return told


def held_now() -> int | None:
    from models.nvml import process_bytes

    return process_bytes(os.getpid())


def held_bytes() -> int | None:
    """After a moment; no CUDA call is made, which a process that is away would wait in for ever."""
    time.sleep(SETTLE_S)
    return held_now()


SUBJECTS: dict[str, Callable[[argparse.Namespace], dict[str, Any] | Awaitable[dict[str, Any]]]] = {
    "bandwidth": bandwidth,
    "wake": wake,
    "residue": residue,
    "ledger": ledger,
    "checkpoint": checkpoint,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.gpu.subjects")
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--bytes", type=int, default=GIB)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--from", dest="source", choices=("file", "pool"), default="file")
    parser.add_argument("--in", dest="parent", default=None, help="folder for a file of --bytes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="roundhouse-gpu-", dir=options.parent) as folder:
        options.folder = Path(folder)
        told = SUBJECTS[options.subject](options)
        document = told if isinstance(told, dict) else asyncio.run(_awaited(told))
    sys.stdout.write(json.dumps(document) + "\n")


async def _awaited(told: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    return await told


if __name__ == "__main__":
    main()
