"""Room for a model by shrinking the KV caches that can be, and caches that grow back (``packers.defrag.elastic``)."""

from __future__ import annotations

from collections.abc import Iterator

from packers.defrag.elastic import Fit, grow, make_fit
from packers.draft import Draft, Outcome
from packers.explain import names
from packers.limits import Limits
from packers.trial import Trial
from packers.types import GpuId
from packers.verdicts import Need


def squeeze(need: Need, where: Limits, draft: Draft) -> Outcome | None:
    """Shrink where the new one then gets the largest KV cache, for the fewest that have to; None: that does not do."""
    trial = draft.trial
    if not trial.state.outlook.elastic:
        return None
    touched = {*trial.going, *trial.taken, *trial.resized, *draft.replaced}
    found: list[Fit] = []
    for gpus in _places(need, where, trial):
        free_bytes = {gpu: trial.soon.gpu[gpu] for gpu in gpus}
        fit = make_fit(need.model, gpus, trial.state, free_bytes, touched)
        if isinstance(fit, Fit) and fit.resizes and trial.carries(need.model, gpus):
            found.append(fit)
    if not found:
        return None
    best = min(found, key=lambda fit: (-fit.footprint.kv_cache_bytes, len(fit.resizes), fit.gpus))
    for resize in best.resizes:
        draft.resize(resize)
    trial.promise(need.model, best.gpus, best.footprint)
    shrink = names(resize.model for resize in best.resizes)
    draft.hold(need.model, f"{need.model.id} waits for the KV cache of {shrink} to shrink on {names(best.gpus)}.")
    return Outcome.WAITING


def _places(need: Need, where: Limits, trial: Trial) -> Iterator[tuple[GpuId, ...]]:
    """The GPUs of those that can shrink; for a group the ones with most room of each such node."""
    homes = {
        trial.gpu[gpu]
        for name in trial.state.outlook.elastic
        for one in trial.index.of_model[name].values()
        for gpu in one.gpus
    }
    wanted = need.model.tensor_parallel
    if wanted == 1:
        open_ones = (gpu.id for gpu in homes if where.refusal(gpu) is None and gpu.id not in trial.closed)
        yield from ((gpu,) for gpu in sorted(open_ones))
        return
    for node in sorted({gpu.node for gpu in homes}):
        there = [gpu for gpu in trial.index.of_node(node) if where.refusal(gpu) is None and gpu.id not in trial.closed]
        there.sort(key=lambda gpu: (-trial.soon.gpu[gpu.id], gpu.id))
        if len(there) >= wanted:
            yield tuple(sorted(gpu.id for gpu in there[:wanted]))


def grow_back(draft: Draft) -> None:
    """Into what is free at once, while nobody waits for anything."""
    trial = draft.trial
    lacking = trial.state.outlook.lacking
    if not lacking or draft.somebody_waits:
        return
    trial.serve(None)  # what is guaranteed is not for caches that could do without
    gpus = sorted({gpu for name in lacking for one in trial.index.of_model[name].values() for gpu in one.gpus})
    free_bytes = {gpu: trial.free_gpu(gpu) for gpu in trial.gpu}
    touched = {*trial.going, *trial.taken, *trial.resized, *draft.replaced}
    for resize in grow(trial.state, free_bytes, gpus, touched):
        draft.resize(resize)
