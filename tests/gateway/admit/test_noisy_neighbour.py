"""What tenants do to each other, on virtual time.

Promise S6: a noisy one at ten times its share moves a quiet one's p99 by at most 1.5 times.
"""

from __future__ import annotations

import heapq
import itertools
from random import Random

from tests.gateway.admit.scene import Request, Scene, model

SLOTS = 8
SERVICE_S = 1.0  # the mean of an exponential one
SHARE_PER_S = SLOTS / SERVICE_S / 2  # of either tenant
LASTS_S = 600.0


def arrivals(tenant: str, per_s: float, rng: Random) -> list[tuple[float, str]]:
    times, now_s = [], 0.0
    while per_s and (now_s := now_s + rng.expovariate(per_s)) < LASTS_S:
        times.append((now_s, tenant))
    return times


def latencies_s(quiet_per_s: float, noisy_per_s: float) -> tuple[list[float], int]:
    """Of the quiet tenant's requests, sorted, with how many of them were refused."""
    scene, rng = Scene(hold_limit=100), Random(7)
    scene.now_s = 0.0
    scene.table(model("a", slots=SLOTS))
    order = itertools.count()
    coming = arrivals("quiet", quiet_per_s, Random(1)) + arrivals("noisy", noisy_per_s, Random(2))
    events: list[tuple[float, int, str, Request | None]] = [(at_s, next(order), who, None) for at_s, who in coming]
    heapq.heapify(events)
    began: dict[int, float] = {}
    held: list[Request] = []
    took, refused = [], 0
    while events:
        scene.now_s, _, tenant, going = heapq.heappop(events)
        if going is None:
            asked = scene.ask(tenant=tenant, timeout_s=60.0)
            began[id(asked)] = scene.now_s
            refused += asked.error is not None and tenant == "quiet"
            fresh = [asked] if asked.claim is not None else []
            held += [asked] if asked.waits else []
        else:
            scene.end(going)
            fresh = []
            if tenant == "quiet":
                took.append(scene.now_s - began[id(going)])
        scene.turn()
        fresh += [one for one in held if one.claim is not None]
        refused += sum(one.error is not None and one.inquiry.caller.tenant == "quiet" for one in held)
        held = [one for one in held if one.waits]
        for one in fresh:
            until_s = scene.now_s + rng.expovariate(1 / SERVICE_S)
            heapq.heappush(events, (until_s, next(order), one.inquiry.caller.tenant, one))
    return sorted(took), refused


def p99(values: list[float]) -> float:
    return values[int(len(values) * 0.99)]


def test_a_noisy_tenant_at_ten_times_its_share_hardly_moves_a_quiet_one() -> None:
    quiet_per_s = SHARE_PER_S / 2
    alone, refused_alone = latencies_s(quiet_per_s, 0.0)
    beside, refused_beside = latencies_s(quiet_per_s, 10 * SHARE_PER_S)
    assert len(alone) > 1000
    assert len(beside) == len(alone)
    assert refused_alone == refused_beside == 0, "a full queue is the noisy one's affair"
    assert p99(beside) <= 1.5 * p99(alone)


def test_a_guaranteed_share_of_all_slots_is_had_whatever_the_others_ask_for() -> None:
    """Long answers and short ones, heavy tenants and many: a third of the tokens is the one's that was promised it."""
    scene, rng = Scene(hold_limit=2000), Random(3)
    scene.table(model("a", "b", slots=4))
    tokens = Random(4)
    asked = [
        scene.ask(tenant="ours", share=1 / 3, tokens=tokens.randint(1, 200), timeout_s=1e6) for _ in range(300)
    ] + [
        scene.ask(tenant=f"other-{n}", weight=50.0, tokens=tokens.randint(1, 2000), timeout_s=1e6)
        for n in range(12)
        for _ in range(60)
    ]
    scene.turn()
    all_tokens = ours = 0
    going = [one for one in asked if one.claim is not None]
    assert len(going) == 8
    while any(one.waits and one.inquiry.caller.tenant == "ours" for one in asked):
        scene.end(going.pop(rng.randrange(len(going))))
        scene.turn()
        for one in [one for one in asked if one.claim is not None and one.held]:
            one.held = False  # seen
            going.append(one)
            all_tokens += one.inquiry.peek.tokens
            ours += one.inquiry.peek.tokens * (one.inquiry.caller.tenant == "ours")
            assert ours >= (all_tokens - 2000) / 3 - 200
    assert ours > 20_000
