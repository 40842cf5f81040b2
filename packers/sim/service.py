"""How long a replica works on a request: as recorded, or estimated from its tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from packers.sim.trace import Floats, Trace
from packers.types import ModelId


@dataclass(frozen=True, slots=True)
class TokenRates:
    """seconds = fixed_s + input tokens / prefill_per_s + output tokens / decode_per_s. The defaults are about those of
    an 8B model on one recent GPU with a few requests in its batch."""

    fixed_s: float = 0.05
    prefill_per_s: float = 8_000.0
    decode_per_s: float = 50.0

    def __post_init__(self) -> None:
        if not 0 <= self.fixed_s < math.inf:
            raise ValueError(f"fixed_s must be 0 or more, got {self.fixed_s}")
        for name in ("prefill_per_s", "decode_per_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """``recorded``: use the trace's own service times where it has them. ``by_model`` comes before ``rates``."""

    rates: TokenRates = TokenRates()
    by_model: Mapping[ModelId, TokenRates] = field(default_factory=dict)
    recorded: bool = True

    def of(self, trace: Trace) -> Floats:
        """Seconds of each request."""
        rates = [self.by_model.get(name, self.rates) for name in trace.names] or [self.rates]
        fixed_s = np.array([one.fixed_s for one in rates])[trace.model]
        prefill = np.array([one.prefill_per_s for one in rates])[trace.model]
        decode = np.array([one.decode_per_s for one in rates])[trace.model]
        estimated: Floats = fixed_s + trace.input_tokens / prefill + trace.output_tokens / decode
        if not self.recorded:
            return estimated
        taken: Floats = np.where(trace.service_s > 0, trace.service_s.astype(np.float64), estimated)
        return taken
