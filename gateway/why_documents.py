"""The shape of ``GET /admin/v1/why``. Sizes are bytes, times Unix seconds."""

from __future__ import annotations

import msgspec

from gateway.decision_documents import DecisionView
from gateway.plan_documents import IfCalled


class WhyReplica(msgspec.Struct, kw_only=True):
    """``because``: the decision that brought it where it is; null where the record does not reach back so far.
    ``keeps``: why it stays, or when it goes."""

    replica_id: str
    model_id: str
    gpu: str
    state: str
    since_unix_s: float
    in_flight: int
    gpu_bytes: int
    reason: str
    because: DecisionView | None = None
    keeps: str = ""


class Why(msgspec.Struct, kw_only=True):
    """About a model, a replica or a GPU (``subject``). ``summary``: in one sentence. ``if_called``: what a request to
    the model would meet now; null for others, and while no controller answers (``unknown`` says why). ``decisions``:
    the last ones, newest first. ``helps``: what would help, each with the command or the setting for it."""

    object: str = "why"
    subject: str
    name: str
    at_unix_s: float
    summary: str
    replicas: tuple[WhyReplica, ...] = ()
    if_called: IfCalled | None = None
    unknown: str | None = None
    decisions: tuple[DecisionView, ...] = ()
    helps: tuple[str, ...] = ()


DOCUMENTS = (WhyReplica, Why)
