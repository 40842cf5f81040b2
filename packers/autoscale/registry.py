"""Autoscaling policies by name. All of them keep within the model's bounds."""

from __future__ import annotations

from packers.autoscale.concurrency import concurrency
from packers.autoscale.context import Autoscaler
from packers.autoscale.demand import demand
from packers.autoscale.forecast import forecast
from packers.autoscale.ours import ours
from packers.autoscale.wrap import bounded

AUTOSCALING: dict[str, Autoscaler] = {
    "concurrency": bounded(concurrency),
    "demand": bounded(demand),
    "forecast": bounded(forecast(ours)),
    "ours": bounded(ours),
}
