"""Live beside predicted, metric by metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.figures import percentile
from loadtests.replay.calls import Answer
from loadtests.replay.recorded import Deeds
from packers.sim import SimResult

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: str
    live: float
    predicted: float

    @property
    def difference(self) -> float:
        """Predicted minus live."""
        return self.predicted - self.live

    @property
    def relative(self) -> float | None:
        """Of the live one; None where that is 0."""
        return self.difference / self.live if self.live else None

    def text(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        by = f"{_signed(self.difference)}{unit}"
        by += "" if self.relative is None else f", {self.relative:+.0%}"
        return f"{self.name} {_number(self.live)}{unit} live, {_number(self.predicted)}{unit} predicted ({by})"


def compare(answers: Sequence[Answer], deeds: Deeds, predicted: SimResult) -> list[Metric]:
    waits = sorted(answer.wait_s for answer in answers if not answer.error)
    delayed = sorted(answer.wait_s for answer in answers if answer.delayed)
    simulated = sorted(float(wait) for wait in _waits(predicted))
    late = [wait for wait in simulated if wait > 0]
    return [
        Metric("requests", "", len(answers), predicted.requests),
        Metric("failed", "", sum(bool(answer.error) for answer in answers), predicted.requests - predicted.served),
        Metric("delayed requests", "", len(delayed), predicted.delayed),
        Metric("wait p50", "s", _percentile(waits, 50), _percentile(simulated, 50)),
        Metric("wait p99", "s", _percentile(waits, 99), _percentile(simulated, 99)),
        Metric("wait p50 of the delayed", "s", _percentile(delayed, 50), _percentile(late, 50)),
        Metric("starts", "", deeds.starts, predicted.starts_disk),
        Metric("wakes", "", deeds.wakes, predicted.starts_host),
        Metric("evictions", "", deeds.evictions, predicted.evictions),
        Metric("replica GPU-seconds", "", deeds.gpu_s, predicted.hours.replica * HOUR_S),
        Metric("GPU-seconds resident", "", deeds.occupied_gpu_s, predicted.hours.occupied * HOUR_S),
    ]


def line(source: str, seconds: float, metrics: Sequence[Metric]) -> str:
    """All of it in one line."""
    said = "; ".join(metric.text() for metric in metrics if metric.name not in ("requests", "failed"))
    by_name = {metric.name: metric for metric in metrics}
    requests, failed = by_name["requests"].live, by_name["failed"].live
    return f"replay of {seconds:.0f} s ({source}), {requests:.0f} requests, {failed:.0f} failed: {said}"


def document(metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    return [asdict(one) | {"difference": one.difference, "relative": one.relative} for one in metrics]


def _waits(predicted: SimResult) -> list[float]:
    found = [] if predicted.waits_s is None else predicted.waits_s.tolist()
    return [wait for wait in found if not math.isnan(wait)]


def _percentile(ordered: Sequence[float], percent: float) -> float:
    return percentile(ordered, percent) if ordered else 0.0


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '-'}{_number(abs(value))}"
