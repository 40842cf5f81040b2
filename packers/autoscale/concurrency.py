"""Knative's pod autoscaler (KPA), with its documented defaults: the baseline that much of serverless serving uses.

1. Wanted are ceil(mean concurrency / (target_in_flight x 0.7)) replicas, over a *stable* window of 60 s and over a
   *panic* window of 6 s. Concurrency is what is in flight and what is held.
2. When the panic window wants at least twice the ready replicas, panic begins, and goes on for 60 s after that last
   held. In panic the panic window decides, and never for less than it has asked for since the panic began.
3. At most 1,000 times the ready replicas are wanted, and at least half of them: the limits of a step up and down.
4. Zero is wanted only after it was for the grace period of 30 s.

Sources: knative.dev "Configuring concurrency", "Additional autoscaling configuration" (stable-window 60s,
panic-window-percentage 10, panic-threshold-percentage 200, container-concurrency-target-percentage 70,
max-scale-up-rate 1000, max-scale-down-rate 2, scale-to-zero-grace-period 30s); knative/serving
pkg/autoscaler/scaling/autoscaler.go for how they go together.
"""

from __future__ import annotations

import math
from dataclasses import replace

from packers.autoscale.context import Scale, ScaleContext
from packers.load import PANIC_S, STABLE_S

TARGET_UTILISATION = 0.7
PANIC_THRESHOLD = 2.0
MAX_UP_RATE, MAX_DOWN_RATE = 1000.0, 2.0
ZERO_GRACE_S = 30.0


def concurrency(context: ScaleContext) -> Scale:
    now_s, memory = context.now_s, context.memory
    ready = max(1, context.ready)
    target = context.slots * TARGET_UTILISATION
    most, least = math.ceil(MAX_UP_RATE * ready), math.floor(context.ready / MAX_DOWN_RATE)
    # 1. and 3.
    stable_wants = math.ceil(context.load.concurrency_60s / target - 1e-9)
    panic_wants = math.ceil(context.load.concurrency_6s / target - 1e-9)
    stable = min(max(stable_wants, least), most)
    panic = min(max(panic_wants, least), most)
    # 2.
    since_s, highest = memory.panic_s, memory.panic_count
    if panic_wants / ready >= PANIC_THRESHOLD:
        since_s = now_s
    elif since_s is not None and now_s - since_s > STABLE_S:
        since_s, highest = None, 0
    if since_s is None:
        count, why = stable, f"{context.load.concurrency_60s:.1f} requests at a time over {STABLE_S:.0f} s"
    else:
        count = highest = max(highest, panic)
        why = f"panic: {context.load.concurrency_6s:.1f} requests at a time over {PANIC_S:.0f} s"
    # 4.
    zero_s = None if count else (now_s if memory.zero_s is None else memory.zero_s)
    if zero_s is not None and now_s - zero_s < ZERO_GRACE_S and context.coming:
        count, why = 1, f"idle for less than the grace period of {ZERO_GRACE_S:.0f} s"
    kept = replace(memory, count=count, panic_s=since_s, panic_count=highest, zero_s=zero_s)
    return Scale(count, why, kept, linger_s=0.0)
