"""Runs vLLM's EngineCore in a thread of this process, behind the interface that AsyncLLM expects of its client.

vLLM's own asynchronous client starts two more processes, which import everything again (16 of the 29 seconds of a stock
start) and talk over sockets. One engine per process makes both needless. The names here are those of vLLM's
``AsyncMPClient`` (vllm/v1/engine/core_client.py); ``vllm_patches.check_patch_points`` notices when they change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

log = logging.getLogger("roundhouse.engine")

IDLE_YIELD_S = 0.001
SHUTDOWN_TIMEOUT_S = 10.0

Job = Callable[[Any], Any]  # takes the EngineCore


class InprocAsyncClient:
    """Duck type of AsyncMPClient. Jobs go to the engine's thread by a queue; outputs come back on the event loop."""

    def __init__(
        self,
        vllm_config: Any,
        executor_class: Any,
        log_stats: bool,
        client_addresses: Any = None,
        client_count: int = 1,
        client_index: int = 0,
        renderer: Any = None,
    ) -> None:
        """Builds the engine; raises whatever it raises."""
        self.vllm_config = vllm_config
        self.client_count = 1
        self.client_index = 0
        self.engine_ranks_managed = [0]
        self.resources = SimpleNamespace(engine_dead=False)
        self.died = threading.Event()
        self.death: BaseException | None = None
        self.core: Any = None
        self._build = (vllm_config, executor_class, log_stats)
        self._build_error: BaseException | None = None
        self._built = threading.Event()
        self._stopping = False
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outputs: asyncio.Queue[Any] = asyncio.Queue()
        self._thread = threading.Thread(target=self._run, name="engine-core", daemon=True)
        self._thread.start()
        self._built.wait()
        if self._build_error is not None:
            raise self._build_error

    # The engine's thread

    def _run(self) -> None:
        from vllm.v1.engine.core import EngineCore

        try:
            self.core = EngineCore(*self._build)
        except BaseException as problem:  # noqa: BLE001 - raised again where the engine was asked for
            self._build_error = problem
            return
        finally:
            self._built.set()
        try:
            while not self._stopping:
                self._do_jobs()
                self._step()
        except BaseException as problem:  # whatever it is, the engine is dead and says so
            log.exception("the engine's loop broke")
            self._die(problem)

    def _has_work(self) -> bool:
        return bool(self.core.scheduler.has_requests() or self.core.batch_queue)

    def _do_jobs(self) -> None:
        """Do what is queued; wait for something when there is nothing else to do."""
        wait = not self._has_work()
        while True:
            try:
                job = self._jobs.get(block=wait)
            except queue.Empty:
                return
            if job is None:
                self._stopping = True
                return
            job(self.core)
            wait = False

    def _step(self) -> None:
        if self._stopping or not self._has_work():
            return
        outputs, executed = self.core.step_fn()
        self.core.post_step(model_executed=executed)
        for output in (outputs or {}).values():
            if output.outputs or output.scheduler_stats:
                self._put(output)
        if not executed and self.core.scheduler.has_requests():
            time.sleep(IDLE_YIELD_S)  # waiting for something else, a grammar for instance: do not spin

    def _put(self, output: Any) -> None:
        # The loop may be closed while the process ends.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._outputs.put_nowait, output)

    def _die(self, problem: BaseException) -> None:
        self.death = problem
        self.resources.engine_dead = True
        self._put(problem)
        self.died.set()

    # AsyncLLM's side, on the event loop

    def _post(self, job: Job) -> None:
        self._loop = self._loop or asyncio.get_running_loop()
        self._jobs.put(job)

    async def _call(self, method: str, *arguments: Any, **named: Any) -> Any:
        return await self.run(lambda core: getattr(core, method)(*arguments, **named))

    async def run(self, work: Job) -> Any:
        """What ``work`` returns or raises when it is called with the EngineCore, in its thread between two steps."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()

        def settle(result: Any, problem: BaseException | None) -> None:
            if answer.cancelled():
                return
            if problem is not None:
                answer.set_exception(problem)
            else:
                answer.set_result(result)

        def job(core: Any) -> None:
            try:
                result, problem = work(core), None
            except Exception as raised:  # noqa: BLE001 - it belongs to the caller
                result, problem = None, raised
            loop.call_soon_threadsafe(settle, result, problem)

        self._post(job)
        return await answer

    async def ask(self, request: Any, most_steps: int) -> list[Any]:
        """The outputs of a request that leaves no trace: neither in metrics nor with whoever reads the outputs."""
        return list(await self.run(lambda core: self._ask(core, request, most_steps)))

    def _ask(self, core: Any, request: Any, most_steps: int) -> list[Any]:
        self._add_to(core, request)
        own: list[Any] = []
        for _ in range(most_steps):
            outputs, executed = core.step_fn()
            core.post_step(model_executed=executed)
            for output in (outputs or {}).values():
                own += [one for one in output.outputs if one.request_id == request.request_id]
                output.outputs = [one for one in output.outputs if one.request_id != request.request_id]
                if output.outputs:
                    self._put(output)
            if own and own[-1].finish_reason is not None:
                return own
        core.abort_requests([request.request_id])
        return own

    def __getattr__(self, name: str) -> Any:
        """``<method>_async`` calls EngineCore's ``<method>`` in the engine's thread."""
        method = name.removesuffix("_async")
        if method == name:
            raise AttributeError(name)
        return lambda *arguments, **named: self._call(method, *arguments, **named)

    async def get_output_async(self) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError

        self._loop = self._loop or asyncio.get_running_loop()
        output = await self._outputs.get()
        if isinstance(output, BaseException):
            raise EngineDeadError from output
        return output

    async def add_request_async(self, request: Any) -> None:
        request.client_index = self.client_index
        self._post(lambda core: self._add(core, request))

    def _add(self, core: Any, request: Any) -> None:
        try:
            self._add_to(core, request)
        except Exception:
            # One request's defect: it alone ends, with an error, as in vLLM's own input thread.
            log.exception("request %s cannot be taken", request.request_id)
            self._put(_error_output(request.request_id))

    def _add_to(self, core: Any, request: Any) -> None:
        prepared, wave = core.preprocess_add_request(request)
        core.add_request(prepared, wave)

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        if request_ids:
            self._post(lambda core: core.abort_requests(request_ids))

    async def collective_rpc_async(
        self,
        method: Any,
        timeout: float | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return await self._call("collective_rpc", method, timeout, args, kwargs)

    def get_kv_event_sources(self) -> dict[int, Any]:
        return {}

    def dp_engines_running(self) -> bool:
        return False

    def shutdown(self, timeout: float | None = None) -> None:
        """Ends the thread. The engine's parts are left to the process's end: tearing them down takes a second."""
        self._jobs.put(None)
        self._thread.join(timeout or SHUTDOWN_TIMEOUT_S)


def _error_output(request_id: str) -> Any:
    from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason

    output = EngineCoreOutput(request_id, [], finish_reason=FinishReason.ERROR)
    return EngineCoreOutputs(finished_requests={request_id}, outputs=[output])
