"""KV caches that shrink so that a model fits, and grow back into memory that nobody uses.

Every KV cache lies between its minimum and its wish. A *fill* of f gives each of them minimum + f (wish - minimum), the
same f for all on a GPU: whoever wishes for more gets more, and nobody goes below the minimum.

Shrinking (``make_fit``): the largest fill at which the new one and those that serve there fit together; one that is
below its share already stays as it is, and one that does not resize keeps what it has.
Growing (``grow``): what is free on a GPU goes to those there that lack something, in proportion to what they lack. A
group grows as its tightest GPU lets it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from packers.explain import size
from packers.ledger import leaving
from packers.state import State
from packers.types import Footprint, GpuId, Model, Replica, ReplicaId, ReplicaState, Resize

FILLS = 1 << 20  # fills are counted in steps of 1 / FILLS
LEAST_GROWTH = 16  # growing by less than 1/16 of the wish is not worth an order, unless it completes the wish


@dataclass(frozen=True, slots=True)
class Fit:
    """A new replica of ``footprint`` fits on ``gpus`` once the ``resizes`` are done, in their order."""

    gpus: tuple[GpuId, ...]
    footprint: Footprint
    resizes: tuple[Resize, ...]


@dataclass(frozen=True, slots=True)
class Short:
    """Even with every KV cache at its minimum ``short_bytes`` are missing on ``gpu``."""

    gpu: GpuId
    short_bytes: int


def at_fill(wish: Footprint, fill: int) -> int:
    """KV cache bytes at a fill of ``fill`` / FILLS."""
    least = least_kv_bytes(wish)
    return least + (wish.kv_cache_bytes - least) * fill // FILLS


def least_kv_bytes(footprint: Footprint) -> int:
    return footprint.kv_cache_bytes if footprint.kv_min_bytes is None else footprint.kv_min_bytes


def start_footprint(wish: Footprint, free_bytes: int) -> Footprint | None:
    """What a new replica gets where so much is free: its wish, or less, but not below its minimum. None: too little."""
    short_bytes = wish.gpu_bytes - free_bytes
    if short_bytes <= 0:
        return wish
    kv_bytes = wish.kv_cache_bytes - short_bytes
    return with_kv(wish, kv_bytes) if kv_bytes >= least_kv_bytes(wish) else None


def with_kv(footprint: Footprint, kv_cache_bytes: int) -> Footprint:
    return replace(footprint, kv_cache_bytes=kv_cache_bytes)


def make_fit(
    model: Model, gpus: tuple[GpuId, ...], state: State, free_bytes: Mapping[GpuId, int], touched: Collection[str] = ()
) -> Fit | Short:
    """The largest fill with which a new replica of ``model`` fits on these GPUs, and who shrinks for that.

    ``free_bytes``: what is free there and promised to nobody. ``touched``: replicas that are left as they are.
    """
    on = {gpu: [one for one in _elastic(state, gpu, touched) if one.id not in touched] for gpu in gpus}
    low, high = 0, FILLS
    for gpu in gpus:
        short_bytes = -_slack(model, on[gpu], state, free_bytes[gpu], 0)
        if short_bytes > 0:
            return Short(gpu, short_bytes)
    while low < high:
        fill = (low + high + 1) // 2
        if all(_slack(model, on[gpu], state, free_bytes[gpu], fill) >= 0 for gpu in gpus):
            low = fill
        else:
            high = fill - 1
    shrunk = {one.id: one for gpu in gpus for one in on[gpu] if _shrunk(one, state, low) < one.footprint.kv_cache_bytes}
    reason = f"makes room for {model.id}"
    resizes = tuple(_resize(shrunk[name], _shrunk(shrunk[name], state, low), reason) for name in sorted(shrunk))
    footprint = with_kv(model.footprint, at_fill(model.footprint, low))
    return Fit(gpus, footprint, resizes)


def grow(
    state: State, free_bytes: Mapping[GpuId, int], gpus: Iterable[GpuId] | None = None, touched: Collection[str] = ()
) -> tuple[Resize, ...]:
    """Who grows back towards its wish, and to what, by replica id.

    ``free_bytes``: what may be given away on each GPU; keep back there what others wait for. ``gpus``: only those on
    them, None for all.
    """
    state.settle()
    found: dict[ReplicaId, Replica] = {}
    for gpu in state.gpus if gpus is None else gpus:
        found.update({one.id: one for one in _elastic(state, gpu, touched) if _lacks(one, state) > 0})
    lacking: dict[GpuId, int] = {}
    for one in found.values():
        for gpu in one.gpus:
            lacking.setdefault(gpu, 0)
    for gpu in lacking:
        lacking[gpu] = sum(_lacks(one, state) for one in _elastic(state, gpu, touched))
    resizes = []
    for name in sorted(found):
        one = found[name]
        lacks = _lacks(one, state)
        more = min(min(lacks, max(0, free_bytes[gpu]) * lacks // lacking[gpu]) for gpu in one.gpus)
        wish = state.models[one.model].footprint.kv_cache_bytes
        if more > 0 and (more == lacks or more * LEAST_GROWTH >= wish):
            kv_bytes = one.footprint.kv_cache_bytes + more
            resizes.append(_resize(one, kv_bytes, f"{size(more)} are free there, and it wishes for {size(wish)}"))
    return tuple(resizes)


def _elastic(state: State, gpu: GpuId, touched: Collection[str]) -> list[Replica]:
    """Those on the GPU that serve and whose models resize, by id."""
    found = []
    for one in state.index.on_gpu(gpu):
        model = state.models.get(one.model)
        if model is None or not model.resizes or one.state is not ReplicaState.READY:
            continue
        if not leaving(one) and one.id not in touched:
            found.append(one)
    return sorted(found, key=lambda one: one.id)


def _lacks(replica: Replica, state: State) -> int:
    return max(0, state.models[replica.model].footprint.kv_cache_bytes - replica.footprint.kv_cache_bytes)


def _shrunk(replica: Replica, state: State, fill: int) -> int:
    """Its KV cache at the fill. Its own minimum holds, too: the card may have changed since it started."""
    share = at_fill(state.models[replica.model].footprint, fill)
    return min(replica.footprint.kv_cache_bytes, max(share, least_kv_bytes(replica.footprint)))


def _slack(model: Model, there: list[Replica], state: State, free_bytes: int, fill: int) -> int:
    """Bytes that stay free on a GPU at the fill; below 0 that are missing."""
    freed = sum(one.footprint.kv_cache_bytes - _shrunk(one, state, fill) for one in there)
    return free_bytes + freed - with_kv(model.footprint, at_fill(model.footprint, fill)).gpu_bytes


def _resize(replica: Replica, kv_cache_bytes: int, why: str) -> Resize:
    verb = "shrinks" if kv_cache_bytes < replica.footprint.kv_cache_bytes else "grows"
    before, after = size(replica.footprint.kv_cache_bytes), size(kv_cache_bytes)
    reason = f"the KV cache of {replica.id} {verb} from {before} to {after}: {why}."
    return Resize(replica.id, replica.model, replica.gpu, kv_cache_bytes, reason)


def resized(replica: Replica, resize: Resize) -> Replica:
    """The replica after the Resize."""
    return replace(replica, footprint=with_kv(replica.footprint, resize.kv_cache_bytes))
