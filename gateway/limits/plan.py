"""The rules that hold for one account's requests to one model, made ready: how much of which counter each takes."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.accounts import Placed
from gateway.limits.costs import Costs
from gateway.limits.counter import Counter
from gateway.limits.needs import Need, Used
from gateway.limits.telling import Teller
from models.store.records import ModelRoute
from models.store.tenancy import What

GIB = 1 << 30
AHEAD_US = 1_500_000  # of running time is reserved against budgets: until a request is held against them next
_TOKENS = (What.TOKENS, What.INPUT_TOKENS, What.OUTPUT_TOKENS)


class Entry:
    """One rule. ``usual``: a rate of requests or of tokens, which nearly every account has, and no more than that."""

    __slots__ = ("by_time", "costs", "counter", "is_budget", "plan", "usual", "what")

    def __init__(self, plan: Plan, placed: Placed, counter: Counter) -> None:
        self.plan, self.counter = plan, counter
        self.what = placed.rule.what
        self.costs = plan.costs
        self.is_budget = counter.hard and placed.rule.is_budget
        self.by_time = self.what is What.GPU_SECONDS or (self.what is What.MONEY and self.costs.by_time)
        self.usual = self.what in (What.REQUESTS, What.TOKENS) and counter.hard and not self.is_budget

    def most(self, need: Need) -> int:
        """What is reserved for a request."""
        what = self.what
        if what is What.CONCURRENT:
            return 1
        if not self.counter.hard:
            return 0  # nothing is held back for it: it is counted when it is known
        if what is What.REQUESTS:
            return 1
        budget = self.is_budget
        inside = need.most_input_tokens if budget else need.input_tokens
        outside = need.most_output_tokens if budget else need.output_tokens
        if what in _TOKENS:
            return (what is not What.OUTPUT_TOKENS) * inside + (what is not What.INPUT_TOKENS) * outside
        gpu_us, gib_us = self.plan.ahead if budget else self.plan.usual
        return gpu_us if what is What.GPU_SECONDS else self.costs.most(inside, outside, gpu_us, gib_us)

    def so_far(self, need: Need, gpu_us: int, gib_us: int) -> int:
        """What must be reserved for one that has run so long."""
        if self.what is What.GPU_SECONDS:
            return gpu_us
        return self.costs.most(need.most_input_tokens, need.most_output_tokens, gpu_us, gib_us)

    def used(self, used: Used) -> int:
        what = self.what
        if what is What.REQUESTS:
            return 1 if used.answered else 0
        if what in _TOKENS:
            inside = (what is not What.OUTPUT_TOKENS) * used.input_tokens
            return inside + (what is not What.INPUT_TOKENS) * used.output_tokens
        if what is What.GPU_SECONDS:
            return used.gpu_us
        if what is What.CONCURRENT or not used.answered:
            return 0
        return self.costs.exact(used.input_tokens, used.cached_tokens, used.output_tokens, used.gpu_us, used.gib_us)


class Plan:
    """``entries``: in the order in which rules are asked. The same once more by what is taken of them, which is all
    that most requests need: ``requests``, where each takes one, ``tokens``, where each takes as many as it may have,
    and ``others``. ``usual``: GPU time and GiB time of its requests (us)."""

    __slots__ = ("ahead", "by_time", "costs", "entries", "others", "requests", "route", "tellers", "tokens", "usual")

    def __init__(self, route: ModelRoute, costs: Costs, ruled: Sequence[tuple[Placed, Counter]]) -> None:
        self.route, self.costs = route, costs
        self.usual = (0, 0)
        # What a request can have of these in AHEAD_US, on the largest of its model's replicas.
        share = max((one.gpu_share for one in route.replicas), default=0.0)
        memory_bytes = max((one.memory_bytes for one in route.replicas), default=0)
        self.ahead = (round(share * AHEAD_US), memory_bytes * AHEAD_US // GIB)
        self.entries = tuple(Entry(self, placed, counter) for placed, counter in ruled)
        self.by_time = any(entry.by_time and entry.is_budget for entry in self.entries)
        usual = [entry for entry in self.entries if entry.usual]
        self.requests = tuple(entry.counter for entry in usual if entry.what is What.REQUESTS)
        self.tokens = tuple(entry.counter for entry in usual if entry.what is What.TOKENS)
        self.others = tuple(entry for entry in self.entries if not entry.usual)
        requests = [entry.counter for entry in self.entries if entry.what is What.REQUESTS and entry.counter.hard]
        tokens = [entry.counter for entry in self.entries if entry.what in _TOKENS and entry.counter.hard]
        named = (("requests", requests), ("tokens", tokens))
        self.tellers = tuple(Teller(kind, counters) for kind, counters in named if counters)

    def learn(self, used: Used) -> None:
        """An average that the last dozen requests make up."""
        gpu_us, gib_us = self.usual
        self.usual = (gpu_us + (used.gpu_us - gpu_us) // 8, gib_us + (used.gib_us - gib_us) // 8)
