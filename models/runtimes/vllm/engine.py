"""A loaded vLLM engine: verified before it serves, asleep and awake, and what it holds meanwhile."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from models import nvml
from models.cuda.sleep import SleepBackend, choice_of, for_vllm
from models.runtimes import model_folder
from models.runtimes.cores.openmp import step_aside
from models.runtimes.proc import trim_heap
from models.runtimes.protocol import Asgi, EngineError, EngineOrder, Measured
from models.runtimes.vllm import kv_memory
from models.runtimes.vllm.canary import ON_CPU, ON_CUDA, Canary
from models.runtimes.vllm.footprint import HostWatch
from models.runtimes.vllm.repack import Repacker
from models.runtimes.vllm.threads import share_cores
from models.runtimes.vllm.weights import LoadedWeights

WATCH_PERIOD_S = 0.2
RESET_TRIES = 50
RESET_PAUSE_S = 0.02

log = logging.getLogger("roundhouse.engine")


class VllmEngine:
    """A running AsyncLLM with its OpenAI application."""

    app: Asgi

    def __init__(self, order: EngineOrder, llm: Any, tasks: Sequence[str], timings_s: dict[str, float]) -> None:
        self.timings_s = timings_s
        self._order = order
        self._llm = llm
        self._asleep = False
        self._sleeper = _sleeper(order, llm) if self._on_gpu else None
        self._weights = _weights_of(llm)
        self._canary = Canary(llm, tasks, self._weights.expected, ON_CUDA if self._on_gpu else ON_CPU)
        self._host = HostWatch()
        self._weights_bytes = self._weights.weights_bytes or _weights_bytes(llm, Path(order.source))
        crew = None if self._on_gpu else share_cores(llm.engine_core.core, self._weights_bytes)
        whole = nullcontext if crew is None else crew.whole
        self._repacker = Repacker(self._weights, llm.engine_core.run, self._is_busy, whole)

    async def verify(self) -> None:
        """Ask the canary; a layout that was made at this start is the others' from then on. Raises EngineError."""
        try:
            await self._canary.check()
        except EngineError:
            self._weights.abandon()
            raise
        self._weights.publish(self._canary.expected)

    def begin(self) -> None:
        """What goes on in the background once it serves."""
        self._host.forget_peak()
        if self._sleeper is not None:
            self._preparing = asyncio.create_task(self._prepare_sleep(self._sleeper))
        if self._order.repack and not self._on_gpu:
            self._repacker.start()
        layout = self._weights.layout
        if layout is not None and layout.manifest.sha256 is None:
            threading.Thread(target=self._seal, name="seal", daemon=True).start()

    async def _prepare_sleep(self, sleeper: SleepBackend) -> None:
        try:
            await sleeper.prepare()
        except (EngineError, RuntimeError) as problem:
            log.warning("the weights are copied to the host at the first sleep instead: %s", problem)

    def _seal(self) -> None:
        step_aside()
        trim_heap()  # of what loading has left there
        self._host.forget_peak()
        self._weights.seal()

    async def sleep(self) -> None:
        if self._sleeper is not None:
            await self._sleeper.suspend()
        else:
            await self._forget_prefixes()
            await self._repacker.drop()
            kv_memory.release()
        trim_heap()
        self._host.forget_peak()
        self._asleep = True

    async def _forget_prefixes(self) -> None:
        """Of requests whose clients have left, the engine may still hold some for a step or two."""
        for _ in range(RESET_TRIES):
            if await self._llm.reset_prefix_cache():
                return
            await asyncio.sleep(RESET_PAUSE_S)
        raise EngineError("it cannot sleep: requests still hold its KV cache")

    async def wake(self) -> None:
        """On the CPU the cache's pages come back, as zeros, when they are written. Raises EngineError."""
        if self._sleeper is not None:
            await self._sleeper.resume()
        await self._canary.check()
        self._asleep = False
        self._host.keep()
        if self._order.repack and not self._on_gpu:
            self._repacker.start()

    def measured(self) -> Measured:
        """Weights and cache as they lie on the device, simulated or not; asleep, only host memory is left."""
        own_bytes = self._own_weights_bytes()
        held = self._host.memory(own_bytes)
        return Measured(
            weights_bytes=0 if self._asleep else self._weights_bytes,
            kv_cache_bytes=0 if self._asleep else self._kv_bytes(),
            rss_bytes=held.private_bytes,
            shared_bytes=held.shared_bytes,
            overhead_bytes=max(0, held.other_bytes - own_bytes),
            device_bytes=nvml.process_bytes(os.getpid()) if self._on_gpu else None,
        )

    def describe(self) -> dict[str, str]:
        """``weights``: mapped (shared with other replicas), packing, packed (a private copy) or copied."""
        how = self._weights.how if self._repacker.state == "idle" else self._repacker.state
        said = {"path": "fast", "weights": how}
        if self._weights.why:
            said["why"] = f"not mapped: {self._weights.why}"
        if self._sleeper is not None:
            said["sleep"] = self._sleeper.name
        said["canary"] = "expected" if self._canary.able else "none"
        return said

    async def watch(self) -> str:
        core = self._llm.engine_core
        while not core.died.is_set():
            await asyncio.sleep(WATCH_PERIOD_S)
        return f"the engine broke while it served ({type(core.death).__name__}): see its log"

    def end_threads(self) -> None:
        """For the launcher's warm-up: leave no thread that a forked child would miss."""
        self._llm.shutdown()

    async def close(self) -> None:
        """Of the engine nothing: the process ends, which frees more and takes less time than any tear-down."""
        if self._sleeper is not None:
            await self._sleeper.close()

    @property
    def _on_gpu(self) -> bool:
        return self._order.device.kind == "cuda"

    def _is_busy(self) -> bool:
        return bool(self._llm.engine_core.core.scheduler.has_requests())

    def _own_weights_bytes(self) -> int:
        copied = self._weights_bytes if self._weights.how == "copied" and not self._on_gpu else 0
        return copied + self._repacker.private_bytes

    def _kv_bytes(self) -> int:
        config = self._llm.vllm_config.cache_config
        return int(config.kv_cache_memory_bytes or 0) if config.num_gpu_blocks else 0


def _worker_of(llm: Any) -> Any:
    return llm.engine_core.core.model_executor.driver_worker.worker


def _model_of(llm: Any) -> Any:
    return _worker_of(llm).model_runner.get_model()


def _sleeper(order: EngineOrder, llm: Any) -> SleepBackend:
    return for_vllm(llm, choice_of(order.engine_args, "vllm"), _worker_of(llm))


def _weights_of(llm: Any) -> LoadedWeights:
    found = getattr(_model_of(llm), "roundhouse", None)
    return found if isinstance(found, LoadedWeights) else LoadedWeights(why="the card chose another load format")


def _weights_bytes(llm: Any, folder: Path) -> int:
    """Of parameters and buffers, each counted once, but at least what the files hold in the model's own type.

    On the CPU vLLM packs matrices into buffers of oneDNN's, which nobody can ask for their size.
    """
    model = _model_of(llm)
    storages = {}
    for tensor in (*model.parameters(), *model.buffers()):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    in_files = model_folder.tensor_bytes(folder, llm.model_config.dtype.itemsize)
    return int(max(sum(storages.values()), in_files))
