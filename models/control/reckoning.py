"""What starts and wakes take of models that were never started or woken here, as far as other models tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from packers.sim.startup import Sample, fit_tier
from packers.types import DEFAULT_START, Model, StartTimes

MUCH_LARGER = 4  # than all that were seen: what it takes cannot be told from them


def reckoned(models: Iterable[Model]) -> tuple[Model, ...]:
    """The same models. Times that are only assumed become what others took, by the size of their weights: a fixed
    time and a bandwidth, fitted to what was measured. They stay where nothing was, or only of much smaller ones."""
    found = tuple(models)
    disk_s, host_s = _guess(found, lambda one: one.disk_s), _guess(found, lambda one: one.host_s)
    return tuple(
        replace(model, startup=StartTimes(disk_s=disk_s(model), host_s=host_s(model)))
        if DEFAULT_START.disk_s == model.startup.disk_s or DEFAULT_START.host_s == model.startup.host_s
        else model
        for model in found
    )


def _guess(models: tuple[Model, ...], of: Callable[[StartTimes], float]) -> Callable[[Model], float]:
    measured = [one for one in models if of(one.startup) != of(DEFAULT_START)]
    if not measured:
        return lambda model: of(model.startup)
    fit = fit_tier(Sample(one.footprint.weights_bytes, of(one.startup)) for one in measured)
    most_bytes = MUCH_LARGER * max(one.footprint.weights_bytes for one in measured)

    def guess(model: Model) -> float:
        own_s, weights_bytes = of(model.startup), model.footprint.weights_bytes
        return fit.seconds(weights_bytes) if own_s == of(DEFAULT_START) and weights_bytes <= most_bytes else own_s

    return guess
