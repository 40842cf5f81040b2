"""``make bench-control``: the control loop's own costs, printed as lines and written as JSON.

- ``decide``: one decision (``packers.decide``) in a step that starts a model; ``step``: all of that step.
- ``step anew``: the same with the whole world looked at anew, as it would be without ``models.control.census``.
- ``wake heard``: from a call that comes to a gateway worker, in a process of its own, through Redis, into the
  controller's inbox. ``wake ordered``: until the order to start goes to the fleet; by then the decision is in Redis.
  ``polled``: the same if the loop only looked ten times a second (computed: half of that and a step). Meanwhile all
  models that serve are called 20 times a second.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadtests.control.world import Scene, build, report
from loadtests.policies.report import Figure, Report
from models.control import controller as loop
from models.control.controller import TICK_S
from models.control.listeners import listen_demand
from models.control.messages import Message, Reported
from models.control.store import RedisControlStore
from models.home import Home
from models.store.client import connect_async, unix_url
from models.store.embedded import EmbeddedRedis
from models.store.keys import Keys

SIZES = (50, 300, 1000)
HUNDREDS = 300  # the size that the goals speak of
STEPS = 60
WAKES = 40
DECISION_MS, WAKE_MS = 1.0, 2.0


def main() -> int:
    args = _arguments()
    made = Report("control")
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Home(Path(folder) / "home").create()) as redis:
        url = unix_url(redis.home.redis_socket)
        for count in args.models:
            passes = [asyncio.run(_measure(count, url)) for _ in range(args.passes)]
            for figure in _figures(count, passes):
                made.add(figure)
    made.write(args.out, sizes=args.models, passes=args.passes)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-control", description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=int, nargs="+", default=list(SIZES), help="sizes of the catalog")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("results"))
    return parser.parse_args()


async def _measure(count: int, url: str) -> dict[str, list[float]]:
    redis = connect_async(url)
    await redis.flushall()
    store = RedisControlStore(redis, Keys())
    await store.fence.take()
    scene = build(count, store)
    found = await _steps(scene)
    found |= await _wakes(scene, redis, store, url)
    await redis.aclose()
    return found


async def _steps(scene: Scene) -> dict[str, list[float]]:
    """Milliseconds of each step that starts a model while all others are called, and of the decision in it."""
    control = scene.controller
    decided: list[float] = []
    original = vars(loop)["decide_on"]
    vars(loop)["decide_on"] = _timed(original, decided)
    try:
        await _bring_up(scene)
        decided.clear()
        waking = iter(scene.stopped)
        count = min(STEPS, len(scene.stopped) // 3)
        kept = [await _step(scene, seq, next(waking, None)) for seq in range(2, 2 + count)]
        chosen = list(decided)
        anew = []
        for seq in range(100, 100 + count):
            control.world.census.touch_all()
            anew.append(await _step(scene, seq, next(waking, None)))
    finally:
        vars(loop)["decide_on"] = original
    return {"decide": chosen[: len(kept)], "step": kept, "step anew": anew}


async def _bring_up(scene: Scene) -> None:
    control = scene.controller
    for name in scene.models[: scene.serving]:
        control.post(report(scene, "bench", 1, held=name))
        control.step()
        await control.flush()
        await asyncio.sleep(0)
    for _ in range(20):
        control.post(report(scene, "bench", 1))
        control.step()
        await control.flush()
        await asyncio.sleep(0.005)


async def _step(scene: Scene, seq: int, held: str | None) -> float:
    control = scene.controller
    control.post(report(scene, "bench", seq, held=held))
    gc.collect()
    began = time.perf_counter()
    control.step()
    took_ms = (time.perf_counter() - began) * 1e3
    await control.flush()
    await control.catch_up()
    await asyncio.sleep(0.01)
    return took_ms


def _timed(call: Callable[..., Any], into: list[float]) -> Callable[..., Any]:
    def timed(*args: Any, **more: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*args, **more)
        finally:
            into.append((time.perf_counter() - began) * 1e3)

    return timed


async def _wakes(scene: Scene, redis: Any, store: RedisControlStore, url: str) -> dict[str, list[float]]:
    """Milliseconds from each call until it was heard of, and to its order."""
    control = scene.controller
    heard: dict[str, float] = {}
    ordered: dict[str, float] = {}

    def post(message: Message) -> None:
        for model, demand in message.report.models.items() if isinstance(message, Reported) else ():
            if demand.held:
                heard.setdefault(model, time.monotonic())
        control.post(message)

    scene.fleet.ordered = lambda model: ordered.setdefault(model, time.monotonic())  # type: ignore[assignment]
    tasks = [
        asyncio.create_task(listen_demand(redis, Keys(), store, post)),
        asyncio.create_task(control.run()),
    ]
    waking = scene.stopped[-min(WAKES, len(scene.stopped) // 3) :]
    words = [url, str(scene.serving), *scene.models[: scene.serving], *waking]
    caller = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtests.control.caller", *words, stdout=subprocess.PIPE
    )
    told, _ = await caller.communicate()
    await asyncio.sleep(0.3)
    control.close()
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    came = {model: float(at_s) for model, at_s in (line.split() for line in told.decode().splitlines())}
    missing = sorted(came.keys() - ordered.keys())
    if missing or caller.returncode:
        raise SystemExit(f"the caller ended with {caller.returncode}; never ordered: {', '.join(missing) or 'none'}")
    return {
        "wake heard": [(heard[model] - at_s) * 1e3 for model, at_s in came.items()],
        "wake ordered": [(ordered[model] - at_s) * 1e3 for model, at_s in came.items()],
    }


def _figures(count: int, passes: list[dict[str, list[float]]]) -> list[Figure]:
    found = {name: [value for one in passes for value in one[name]] for name in passes[0]}
    median = {name: statistics.median(values) for name, values in found.items()}
    worst = {f"{name} p99": statistics.quantiles(values, n=100)[98] for name, values in found.items()}
    item, aimed = f"{count} models", count <= HUNDREDS
    return [
        Figure("decide", item, "median", median["decide"], "ms", DECISION_MS if aimed else None, details=worst),
        Figure("step", item, "median", median["step"], "ms", others={"anew": median["step anew"]}, details=worst),
        Figure("wake heard", item, "median", median["wake heard"], "ms", WAKE_MS if aimed else None, details=worst),
        Figure(
            "wake ordered",
            item,
            "median",
            median["wake ordered"],
            "ms",
            others={"p99": worst["wake ordered p99"], "polled": TICK_S * 1e3 / 2 + median["step"]},
            details=worst,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
