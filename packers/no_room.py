"""Why a model has no room: the GPU, or the node, that comes closest and what it lacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from packers.explain import count, names, size
from packers.ledger import Tally
from packers.limits import Limits
from packers.placement import no_fit
from packers.spots import Free
from packers.types import Footprint, Gpu, Model, NodeId, NoFit


def could_ever_fit(model: Model, gpus: Iterable[Gpu]) -> bool:
    """On GPUs with nothing on them, none of them cordoned, with its KV cache shrunk as far as it goes."""
    needs_bytes, milli = model.footprint.gpu_min_bytes, model.footprint.compute_milli
    fit: dict[NodeId, int] = {}
    for gpu in gpus:
        if gpu.memory_bytes >= needs_bytes and gpu.compute_milli >= milli and _of_type(model, gpu):
            fit[gpu.node] = fit.get(gpu.node, 0) + 1
            if fit[gpu.node] >= model.tensor_parallel:
                return True
    return False


def no_room(model: Model, footprint: Footprint, gpus: Sequence[Gpu], where: Limits, free: Free, tally: Tally) -> NoFit:
    """``gpus``: all of them, or enough to find the closest. ``free`` tells the bytes that may be used."""
    ever = could_ever_fit(model, gpus)
    open_ones = [gpu for gpu in gpus if where.refusal(gpu) is None]
    largest_bytes = max((gpu.memory_bytes for gpu in gpus), default=0)
    if not gpus or (largest_bytes < footprint.gpu_bytes and model.tensor_parallel == 1 and not model.gpu_types):
        return no_fit(model.id, footprint, gpus, _Room(free))
    if not ever or not open_ones:
        return _ruled_out(model, footprint, gpus, where, ever)
    if model.tensor_parallel > 1:
        return _no_group(model, footprint, open_ones, free)
    why = no_fit(model.id, footprint, open_ones, _Room(free))
    barred = sorted({reason for gpu in gpus if (reason := where.refusal(gpu)) is not None})
    if barred:
        left_out = len(gpus) - len(open_ones)
        reason = f"{why.reason} Left out: {count(left_out, 'GPU')} ({names(barred)})."
        why = NoFit(why.model, why.needs_bytes, why.largest_gpu_bytes, ever, why.gpu, why.short_bytes, reason)
    return why if why.short_bytes > 0 else _no_compute(why, footprint, tally)


class _Room:
    def __init__(self, free: Free) -> None:
        self.free_gpu = free


def _of_type(model: Model, gpu: Gpu) -> bool:
    return not model.gpu_types or gpu.name in model.gpu_types


def _no_compute(why: NoFit, footprint: Footprint, tally: Tally) -> NoFit:
    """There is enough memory, but not of compute or CPU cores."""
    wants = f"{footprint.compute_milli / 1000:g} of a GPU's compute"
    if footprint.cpu_milli:
        wants += f" and {footprint.cpu_milli / 1000:g} CPU cores"
    has = f", {why.gpu} has {tally.compute[why.gpu] / 1000:g} of its compute free" if why.gpu is not None else ""
    reason = f"{why.model} needs {wants} beside its memory{has}."
    return NoFit(why.model, why.needs_bytes, why.largest_gpu_bytes, why.ever, why.gpu, 0, reason)


def _ruled_out(model: Model, footprint: Footprint, gpus: Sequence[Gpu], where: Limits, ever: bool) -> NoFit:
    largest = min(gpus, key=lambda gpu: (-gpu.memory_bytes, gpu.id))
    wants = _wants(model, footprint)
    if ever:
        barred = sorted({reason for gpu in gpus if (reason := where.refusal(gpu)) is not None})
        reason = f"{wants}; at present every GPU is left out: {names(barred)}."
    else:
        of_type = f" of type {' or '.join(model.gpu_types)}" if model.gpu_types else ""
        reason = f"{wants}{of_type}, which no node has even when empty."
    short_bytes = max(0, footprint.gpu_bytes - largest.memory_bytes)
    return NoFit(model.id, footprint.gpu_bytes, largest.memory_bytes, ever, largest.id, short_bytes, reason)


def _no_group(model: Model, footprint: Footprint, gpus: Sequence[Gpu], free: Free) -> NoFit:
    """The node whose GPUs come closest to having room for the whole group."""
    needs_bytes, wanted = footprint.gpu_bytes, model.tensor_parallel
    of_node: dict[NodeId, list[Gpu]] = {}
    for gpu in gpus:
        of_node.setdefault(gpu.node, []).append(gpu)
    ranked = []
    for node, there in of_node.items():
        there.sort(key=lambda gpu: (-free(gpu.id), gpu.id))
        fitting = sum(free(gpu.id) >= needs_bytes for gpu in there)
        last = there[min(wanted, len(there)) - 1]
        ranked.append((len(there) < wanted, -fitting, needs_bytes - free(last.id), node, fitting, last))
    _, _, short_bytes, node, fitting, last = min(ranked, key=lambda rank: rank[:4])
    reason = (
        f"{_wants(model, footprint)}; {node} comes closest with {count(fitting, 'GPU')} that {_have(fitting)} room."
    )
    largest_bytes = max(gpu.memory_bytes for gpu in gpus)
    return NoFit(model.id, needs_bytes, largest_bytes, True, last.id, max(0, short_bytes), reason)


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _wants(model: Model, footprint: Footprint) -> str:
    compute = f" and {footprint.compute_milli / 1000:g} of its compute" if footprint.compute_milli else ""
    if model.tensor_parallel == 1:
        return f"{model.id} needs a GPU with {size(footprint.gpu_bytes)}{compute}"
    return f"{model.id} needs {model.tensor_parallel} GPUs of one node with {size(footprint.gpu_bytes)}{compute} each"
