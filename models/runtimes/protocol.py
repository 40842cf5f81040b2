"""The contract between the fleet and the engines: orders, statuses, the Runtime protocol and the control wire.

Wire (unix sockets, one JSON object a line, both ways):
1. The owner connects to the launcher's socket and sends ``{"op": "start", "order": {...EngineOrder}}``. The launcher
   forks; the child answers on that same connection: first ``EngineStatus`` with state ``loading``, then one status for
   each change of state. From then on the connection is a control connection.
2. Anyone may open further control connections on ``order.control_path`` (re-adoption); the child greets with its
   status.
3. Operations on a control connection, each answered by one ``EngineReply`` carrying the same ``seq``:
   ``{"seq": 1, "op": "status" | "renew" | "sleep" | "wake" | "stop"}``. ``sleep`` and ``stop`` take no new requests,
   let those in flight end for ``drain_s`` and cut the rest, with an error that says so.
4. The engine lives under a lease: without a ``renew`` (any connection) for ``lease_s`` it ends itself. A closed
   connection does not end it.
The launcher also answers ``{"op": "ping"}`` with ``LauncherStatus``; on ``{"op": "quit"}`` it ends, its engines go on;
on ``{"op": "recycle"}``, answered with ``LauncherStatus``, it warms a successor of the process that forks for it.
A line it cannot act upon is answered with ``Refusal``. When a child is gone it writes ``ExitReport`` to
``exit_path(order.control_path)``.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import msgspec

KEY_HEADER = "x-roundhouse-key"  # what callers on an engine's TCP port show (EngineOrder.tcp_key_path)
EngineState = Literal["loading", "ready", "asleep", "failed"]
# What kind of thing went wrong, for whoever has to act upon it; the sentence beside it is for people.
# weights: files damaged, incomplete or refused; canary: it computes other tokens than it should; memory: it does not
# fit its budget or the machine; code: a model class raised; hang: no answer in time; other: everything else.
Fault = Literal["weights", "canary", "memory", "code", "hang", "other"]
Asgi = Callable[[Any, Any, Any], Awaitable[None]]


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Where an engine computes. ``simulated``: the CPU stands in for a GPU of ``memory_bytes``."""

    kind: Literal["cpu", "cuda"] = "cpu"
    uuid: str | None = None  # CUDA device UUID, becomes CUDA_VISIBLE_DEVICES
    id: str = ""  # the ledger's name of it, which tells simulated ones apart
    memory_bytes: int = 0
    simulated: bool = True
    link_bytes_per_s: float = 0.0  # simulated only: stands for the bus that weights cross; 0: no time passes


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """GPU bytes reserved for the engine by the ledger, by kind."""

    weights_bytes: int
    kv_cache_bytes: int
    overhead_bytes: int


class EngineOrder(msgspec.Struct, frozen=True, kw_only=True):
    replica_id: str
    model_id: str
    served_names: tuple[str, ...]  # model_id first, then aliases
    runtime: str  # "vllm" | "torch"
    source: str  # local folder with config.json and *.safetensors
    engine_args: dict[str, Any]
    device: Device
    budget: Budget
    http_path: str  # unix socket of the engine's own HTTP API
    control_path: str  # unix socket of the control wire
    log_path: str  # stdout and stderr of the child
    lease_s: float = 60.0
    # Where a runtime may keep the weights in its own layout, for this content alone (models/weights); "": nowhere.
    layout_dir: str = ""
    cold: bool = False  # trust no stored layout: load from the source, and write the layout anew
    adapters: dict[str, str] = {}  # LoRA adapters to serve beside the model: name -> local folder
    repack: bool = True  # may turn shared mapped weights into faster private ones while it serves
    # Where its HTTP API listens besides, on a free port, for gateways of other nodes; "": nowhere.
    tcp_host: str = ""
    tcp_key_path: str = ""  # a file with the key that callers on that port have to show
    tag: str = ""  # opaque to the engine, echoed in its status (the controller's card hash, GPU id, ...)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes the engine says it holds now, by kind; asleep, weights and KV cache are 0 and the overhead is the residue.

    ``overhead_bytes``: what it holds on its device besides weights and KV cache (context, activations, graphs), on a
    simulated GPU the private memory that stands for it. ``device_bytes``: what the device's driver says this process
    holds, None where there is no driver to ask.
    """

    weights_bytes: int
    kv_cache_bytes: int
    rss_bytes: int  # the child's private resident memory
    shared_bytes: int = 0  # resident pages of mapped weights, which other replicas may share
    overhead_bytes: int = 0
    device_bytes: int | None = None


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine says of itself; complete enough to be re-adopted by a new owner."""

    state: EngineState
    pid: int
    order: EngineOrder
    error: str | None = None  # one clear sentence when failed
    fault: Fault | None = None  # when failed
    # Phases of the start ("ready" is the total since the order was read), and its latest "sleep" and "wake" (without
    # draining, with "transfer": what the simulated bus took of the latest change).
    timings_s: dict[str, float] = {}
    detail: dict[str, str] = {}  # ``Engine.describe``
    measured: Measured | None = None
    tcp_port: int | None = None  # that was free on ``order.tcp_host``


class EngineReply(msgspec.Struct, frozen=True, kw_only=True):
    """``cut``: requests that a ``sleep`` or ``stop`` ended because they did not end in time."""

    seq: int
    ok: bool
    status: EngineStatus
    error: str | None = None
    fault: Fault | None = None
    cut: int = 0


FORCED = "the launcher was told so"  # why a runtime is run the plain way, when it was not the probe that chose it


class LauncherStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``rss_bytes``, ``warm_s``, ``age_s`` and ``forks`` are those of the warm process that forks now, the
    ``generation``-th since the launcher began; 0 while there is none.
    """

    pid: int
    ready: bool
    runtimes: dict[str, str]  # runtime -> version, or "unavailable: why"
    started: int  # engines started so far
    rss_bytes: int
    warm_s: float
    paths: dict[str, str] = {}  # of runtimes that have more than one way to run: "fast", or "plain: why"
    engines: int = 0  # that this launcher has started and that run
    spares: int = 0  # children forked ahead that wait for an order
    spare_bytes: int = 0  # private memory of all of them together
    generation: int = 0
    age_s: float = 0.0
    forks: int = 0
    problem: str = ""  # what keeps the launcher from warming, or from being renewed


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The launcher's answer to a line that is no order; ``refused`` is one clear sentence."""

    refused: str


class ExitReport(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine's process ended, as its launcher saw it. Exactly one of ``code`` and ``signal`` is set.

    ``meaning``: what the signal tells, ``crashed_in``: the Python functions that the crashed thread was in, ``core``:
    where its core is or how to get one (names paths: for operators only). ``log_tail``: its log's last lines.
    """

    pid: int
    replica_id: str
    code: int | None = None
    signal: int | None = None
    last_log_line: str = ""
    meaning: str = ""
    crashed_in: str = ""
    core: str = ""
    out_of_memory: bool = False
    log_tail: tuple[str, ...] = ()
    shared_with: int = 0  # other replicas that lived in the process and ended with it

    def headline(self, during: str = "") -> str:
        """How it ended, without what it said. ``during``: what it was doing, such as ``while it served``."""
        doing = f" {during}" if during else ""
        if self.signal is not None:
            name = signal.strsignal(self.signal) or "unknown"
            means = f", {self.meaning}" if self.meaning else ""
            place = f", in {self.crashed_in}" if self.crashed_in else ""
            return f"{self._who()} was killed by signal {self.signal} ({name}){doing}{means}{place}"
        return f"{self._who()} ended{f' with code {self.code}' if self.code else ''}{doing}"

    def _who(self) -> str:
        others = f"{self.shared_with} other {'replica' if self.shared_with == 1 else 'replicas'}"
        return f"the engine's process {self.pid}" + (f", shared with {others}," if self.shared_with else "")

    def reason(self, during: str = "") -> str:
        """One sentence for people."""
        said = self.last_log_line if self.code != 0 else ""
        between = ": " if self.code is not None else "; it last said: "
        return self.headline(during) + (f"{between}{said}" if said else "")

    @property
    def fault(self) -> Fault:
        return "memory" if self.out_of_memory else "other"


def exit_path(control_path: str) -> str:
    """Where the launcher leaves the ``ExitReport`` of the engine behind ``control_path``."""
    return control_path + ".exit"


class EngineError(Exception):
    """An engine could not do what it was asked; the message is one clear sentence fit for callers.

    No traceback, no path outside the model's source, no class names.
    """

    def __init__(self, message: str, fault: Fault = "other") -> None:
        super().__init__(message)
        self.fault = fault

    def __reduce__(self) -> tuple[type[EngineError], tuple[str, Fault]]:
        return type(self), (str(self), self.fault)  # it crosses Ray


class Engine(Protocol):
    """A loaded model inside a child process."""

    @property
    def app(self) -> Asgi:
        """Serves /health, /v1/models and the runtime's endpoints."""

    @property
    def timings_s(self) -> dict[str, float]:
        """Phases of ``Runtime.load``."""

    async def sleep(self) -> None:
        """Give the GPU bytes back, keep the weights in host RAM. Requests must have drained before."""

    async def wake(self) -> None: ...

    def measured(self) -> Measured: ...

    def describe(self) -> dict[str, str]:
        """How it runs now, for operators: ``path`` (fast, plain), ``weights`` (copied, mapped, packed, pinned) ..."""

    async def watch(self) -> str:
        """Wait until the engine can serve no more; why, in one clear sentence."""

    async def close(self) -> None: ...


class Runtime(Protocol):
    """Knows how to turn an order into an engine. ``preimport`` and ``warm`` run once in the launcher before any fork.

    Neither may touch CUDA, start Ray or leave a thread running that a forked child would miss.
    """

    name: str

    def version(self) -> str: ...

    def preimport(self) -> None: ...

    def warm(self, scratch: str) -> None: ...

    async def load(self, order: EngineOrder) -> Engine:
        """Raises EngineError with one clear sentence."""
