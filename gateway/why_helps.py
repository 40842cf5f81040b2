"""What would help, each with the command or the setting for it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.plan_documents import IfCalled
from models.catalog.units import format_bytes
from models.store.records import Failure, FleetRecord, GpuRecord, ModelRecord

WORTH_WARMING_S = 0.5  # a wait of callers that somebody may want to spare them
GPU_KINDS = ("weights", "kv_cache", "overhead")


def of_model(
    record: ModelRecord, fleet: FleetRecord | None, answer: IfCalled | None, now_unix_s: float
) -> Iterator[str]:
    name = record.model_id
    if record.failure is not None:
        yield from _of_failure(name, record.failure, now_unix_s)
    if record.max_replicas == 0:
        yield f"it is switched off: set max_replicas of {name} to at least 1 in its card"
    if answer is not None and answer.outcome in ("hold", "refuse"):
        yield from answer.counterfactuals
        yield from _of_places(record, fleet)
    yield from _of_away(name, fleet)
    if answer is not None and (answer.wait_s or 0.0) >= WORTH_WARMING_S:
        yield (
            f"its next callers wait for {answer.wait_s:.1f} s; to keep it ready: "
            f"roundhouse warm {name} --until 18:00, or min_replicas: 1 in its card"
        )
    if answer is not None and any(not one.sleeps for one in answer.leaving):
        gone = ", ".join(one.model_id for one in answer.leaving if not one.sleeps)
        yield f"{gone} would be stopped, not put to sleep: more host_memory, or can_sleep: true in its card"
    if record.excess_bytes:
        more = format_bytes(record.excess_bytes)
        yield f"its replicas hold {more} more than its card says: correct declared, so that the packer plans with it"
    if record.quarantined:
        times = "once" if record.quarantined == 1 else f"{record.quarantined} times"
        yield f"it failed its canary {times}: roundhouse weights verify, and roundhouse logs {name}"
    if fleet is not None and fleet.config_error:
        yield f"the configuration on disk is not in force: {fleet.config_error}"


def of_gpu(gpu: GpuRecord) -> Iterator[str]:
    if gpu.lost:
        yield f"nothing can be placed there: {gpu.lost}; what was on it is placed elsewhere"
    if gpu.cordoned:
        yield f"it takes nothing new; to put it back: roundhouse gpus undrain {gpu.id}"
    if gpu.closed:
        yield f"nothing new goes there ({gpu.closed}): roundhouse node list"
    if not gpu.lost and not gpu.cordoned and not gpu.closed:
        yield f"to see what emptying it would do: roundhouse gpus drain {gpu.id} --dry-run"
    if gpu.used_bytes is not None and gpu.used_bytes > gpu.reserved_bytes * 1.02:
        more = format_bytes(gpu.used_bytes - gpu.reserved_bytes)
        yield f"{more} of it are in use that nobody has reserved: other programs, or a leak; see nvidia-smi"


def _of_failure(name: str, failure: Failure, now_unix_s: float) -> Iterator[str]:
    if failure.permanent:
        yield (
            f"it is not started again by itself ({failure.message}): correct its card or its files; "
            f"to try at once: roundhouse models wake {name}"
        )
    else:
        left_s = max(0.0, failure.retry_at_unix_s - now_unix_s)
        when = f"in {left_s:.0f} s" if left_s else "at its next call"
        yield f"its last start failed ({failure.message}); tried again {when}, or by: roundhouse models wake {name}"


def _of_away(name: str, fleet: FleetRecord | None) -> Iterator[str]:
    """It counts as serving there, and nothing is started in its place."""
    away = {node.id for node in fleet.nodes if node.state == "away"} if fleet is not None else set()
    for node in sorted({each.node for each in (fleet.replicas if fleet else ()) if each.model_id == name} & away):
        yield (
            f"{node} does not answer: calls of it there may wait until it does, or is given up; "
            f"when it will not come back: roundhouse node reclaim {node} --in 1s"
        )


def _of_places(record: ModelRecord, fleet: FleetRecord | None) -> Iterator[str]:
    if fleet is None:
        return
    needs = sum(record.footprint.get(kind, 0) for kind in GPU_KINDS)
    open_ones = [gpu for gpu in fleet.gpus if not gpu.cordoned and not gpu.lost and not gpu.closed]
    free = [gpu.free_bytes for gpu in open_ones]
    in_pieces = sum(free) >= needs > max(free, default=0)
    if in_pieces and any(gpu.memory_bytes >= needs for gpu in open_ones):
        yield f"{format_bytes(sum(free))} are free, but in pieces: roundhouse defrag --dry-run"
    drained = [gpu.id for gpu in fleet.gpus if gpu.cordoned]
    if drained:
        yield f"drained GPUs take nothing: roundhouse gpus undrain {drained[0]}"
    for node in fleet.nodes:
        if node.cordoned and node.state != "lost":
            state = "drained" if node.drained else "cordoned"
            yield f"nothing new goes to {node.id}, which is {state}: roundhouse node uncordon {node.id}"
