"""A large cluster: 1,000 GPUs, 3,000 replicas, 50 models in need. How long it takes is reported, not judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

from packers.types import Hold, Model, Sleep, Snapshot, Start, Stop
from tests.packers.worlds import decide, model, replica, world

GPUS, PER_GPU, RESIDENT_MODELS, NEEDING_MODELS = 1000, 3, 850, 50


def large_world(rng: Random) -> Snapshot:
    """Every GPU is filled by three replicas to about two thirds; six in ten are idle."""
    resident = [
        model(f"m{place}", rng.randint(150, 250), residue=10, max_replicas=99, priority=rng.randint(0, 2))
        for place in range(RESIDENT_MODELS)
    ]
    needing = [model(f"need{place}", 600, held=1, waited_s=rng.random()) for place in range(NEEDING_MODELS)]
    gpu_names = [f"node{place // 8:03}/{place % 8}" for place in range(GPUS)]
    replicas = []
    for place in range(GPUS * PER_GPU):
        of: Model = rng.choice(resident)
        mib = of.footprint.gpu_bytes >> 20
        busy = int(rng.random() < 0.4)
        gpu = gpu_names[place // PER_GPU]
        replicas.append(replica(f"{of.id}-{place}", gpu, mib, busy=busy, idle_s=rng.uniform(0, 500), residue=10))
    return world(dict.fromkeys(gpu_names, 800), [*resident, *needing], replicas)


def test_fifty_models_in_need_on_a_thousand_gpus(record_property: Callable[[str, object], None]) -> None:
    there = large_world(Random(1))
    began_s = time.perf_counter()
    plan = decide(there)
    took_s = time.perf_counter() - began_s
    record_property("decide_s", round(took_s, 3))
    print(f"decide: {took_s * 1000:.0f} ms, {len(plan.actions)} actions")
    answered = {action.model for action in plan.actions if isinstance(action, Start | Hold)}
    assert answered == {of.id for of in there.models if of.demand.present}
    evicted = [action for action in plan.actions if isinstance(action, Sleep | Stop)]
    assert {action.evicted_for for action in evicted} == answered
    assert not any(one.in_flight for one in there.replicas if one.id in {action.replica for action in evicted})
