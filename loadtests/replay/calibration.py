"""What things cost here, measured on the service itself before the minute begins, one model after the other."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from loadtests.coldstart.admin import Admin
from loadtests.replay.calls import Answer, ask
from loadtests.target import Target
from loadtests.wire import CallFailed, get_json
from packers.sim import StartUp, TierTime
from packers.sim.calibrate import ASLEEP, STOPPED, coldstart
from packers.sim.service import ServiceTimes, TokenRates
from packers.types import ModelId

FEW, MANY = 1, 17  # tokens; the difference is what a token costs
ASKED = 3


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds. ``start_s``, ``wake_s``: from a request's arrival until a replica takes it, stopped and asleep before.
    ``fixed_s``, ``token_s``: of a request that a ready replica serves alone."""

    start_s: float
    wake_s: float
    sleep_s: float
    stop_s: float
    fixed_s: float
    token_s: float


def measure(target: Target, admin: Admin, models: Sequence[str], rounds: int) -> dict[str, Costs]:
    """Each model is stopped afterwards. Raises CallFailed."""
    for model in models:  # what only the very first start does (layouts, caches) is no part of it
        _asked(target, model, FEW)
        admin.stop(model)
    return {model: _costs(target, admin, model, rounds) for model in models}


def _costs(target: Target, admin: Admin, model: str, rounds: int) -> Costs:
    starts, wakes = [], []
    for _ in range(rounds):
        starts.append(_delayed(target, model))
        admin.put_to_sleep(model)
        wakes.append(_delayed(target, model))
        few, many = (
            statistics.median(_asked(target, model, tokens).total_s for _ in range(ASKED)) for tokens in (FEW, MANY)
        )
        admin.stop(model)
    token_s = max(1e-5, (many - few) / (MANY - FEW))
    known = get_json(target, f"/admin/v1/models/{quote(model, safe='')}", admin=True)["costs_s"]
    return Costs(
        start_s=statistics.median(starts),
        wake_s=statistics.median(wakes),
        sleep_s=float(known.get("sleep", 0.0)),
        stop_s=float(known.get("stop", 0.0)),
        fixed_s=max(1e-4, few - FEW * token_s),
        token_s=token_s,
    )


def _delayed(target: Target, model: str) -> float:
    answer = _asked(target, model, FEW)
    if not answer.delayed:
        raise CallFailed(f"{model} was ready although it had been put down; is somebody else using it?")
    return answer.wait_s


def _asked(target: Target, model: str, tokens: int) -> Answer:
    answer = ask(target, model, tokens)
    if answer.error:
        raise CallFailed(f"{model} could not be measured: {answer.error}")
    return answer


def startup(costs: Mapping[str, Costs], weights_bytes: Mapping[str, int]) -> StartUp:
    """As the simulator takes it: fitted to all models by the size of their weights."""
    figures = [
        {"name": name, "model": model, "median": seconds}
        for model, one in costs.items()
        for name, seconds in ((STOPPED, one.start_s), (ASLEEP, one.wake_s))
    ]
    sizes = {ModelId(model): size for model, size in weights_bytes.items()}
    fitted = coldstart(json.dumps({"figures": figures}), "calibration", sizes)
    sleep_s = statistics.mean(one.sleep_s for one in costs.values())
    stop_s = statistics.mean(one.stop_s for one in costs.values())
    return StartUp(disk=fitted.disk, host=fitted.host, sleep=TierTime(sleep_s), stop_s=stop_s)


def service(costs: Mapping[str, Costs]) -> ServiceTimes:
    rates = {ModelId(model): TokenRates(one.fixed_s, decode_per_s=1 / one.token_s) for model, one in costs.items()}
    return ServiceTimes(by_model=rates, recorded=False)


def document(costs: Mapping[str, Costs]) -> dict[str, Any]:
    return {model: asdict(one) for model, one in costs.items()}
