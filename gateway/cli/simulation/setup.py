"""From the command line to what all runs share: the trace, the models, the hardware."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.simulation.runs import Setup
from gateway.cli.simulation.sweep import seconds
from gateway.cli.simulation.traces import Source, make_up, read_file
from gateway.cli.simulation.worlds import Hardware, Sizes, models_of_config, models_of_trace
from models.catalog.gpus import format_gpus

if TYPE_CHECKING:
    from models.catalog.service import ServiceConfig
    from packers.sim import SimOptions, Trace
    from packers.types import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """As given on the command line; None where it was not."""

    trace: Path | None
    generate: str | None
    models: Path | None
    model: str | None
    hardware: Hardware
    sizes: Sizes
    seed: int
    rate: float | None
    slots: int | None
    until: str | None


def prepare(asked: Asked) -> tuple[Setup, Source]:
    """Raises AskedWrongly."""
    from packers.decide import Policies

    config, given, known = models_of_config(asked.models) if asked.models is not None else (None, None, None)

    @functools.cache
    def source_of(seed: int, rate: float | None) -> Source:
        return _source(asked, seed, rate, given, known)

    def trace_of(seed: int, rate: float | None) -> Trace:
        return source_of(seed, asked.rate if rate is None else rate).trace

    source = source_of(asked.seed, asked.rate)
    setup = Setup(
        trace_of=trace_of,
        models=given if given is not None else models_of_trace(source, asked.sizes),
        hardware=_hardware(asked.hardware, config),
        policies=config.policies.policies() if config is not None else Policies(),
        options=_options(asked, config),
        config=config,
    )
    return setup, source


def about(source: Source, setup: Setup) -> dict[str, Any]:
    """What the runs have in common, in words."""
    hardware = setup.hardware
    host = "" if hardware.host_memory == "0" else f", {hardware.host_memory} of host RAM each"
    gpus = hardware.gpus or "GPUs as swept"
    until_s = setup.options.until_s
    played = source.trace if until_s is None else source.trace.clip(0.0, until_s)
    return {
        "trace": source.name,
        "requests": len(played),
        "duration_s": played.duration_s,
        "models": len(setup.models),
        "hardware": f"{hardware.nodes} node{'s' * (hardware.nodes != 1)} with {gpus}{host}",
    }


def _source(
    asked: Asked, seed: int, rate: float | None, models: tuple[Model, ...] | None, known: dict[str, str] | None
) -> Source:
    if asked.trace is not None:
        return read_file(asked.trace, seed=seed, rate_per_s=rate, single_model=asked.model, known=known)
    assert asked.generate is not None
    found = make_up(asked.generate, seed, None if models is None else [model.id for model in models])
    return found if rate is None else replace(found, trace=found.trace.to_rate(rate))


def _hardware(asked: Hardware, config: ServiceConfig | None) -> Hardware:
    simulated = config.simulated_gpus if config is not None else None
    gpus = asked.gpus or (format_gpus(simulated) if simulated else "")
    configured = config.host_memory if config is not None else None
    return replace(asked, gpus=gpus, host_memory=asked.host_memory or str(configured or 0))


def _options(asked: Asked, config: ServiceConfig | None) -> SimOptions:
    from packers.sim import SimOptions

    options = SimOptions(
        seed=asked.seed,
        slots=asked.slots,
        until_s=None if asked.until is None else seconds(asked.until, "--until"),
    )
    if config is None:
        return options
    gateway = config.gateway
    return replace(
        options,
        hold_timeout_s=gateway.hold_timeout,
        hold_limit=gateway.hold_limit,
        drain_timeout_s=config.drain_timeout,
    )
