"""The shape of ``GET /admin/v1/plan``. Sizes are bytes, times Unix seconds."""

from __future__ import annotations

import msgspec


class CandidateView(msgspec.Struct, kw_only=True):
    """A GPU that was looked at: its score (lower is better), or why it was rejected."""

    gpu: str
    free_bytes: int
    score: float | None = None
    rejected: str | None = None


class PlannedAction(msgspec.Struct, kw_only=True):
    """``action``: start | wake | sleep | stop | resize | hold | refuse."""

    action: str
    model_id: str
    reason: str
    gpu: str | None = None
    replica_id: str | None = None
    evicted_for: str | None = None
    candidates: tuple[CandidateView, ...] = ()


class LeavingView(msgspec.Struct, kw_only=True):
    """Whom a model would displace. ``sleeps``: its weights stay in host RAM. ``back_s``: to bring it back."""

    model_id: str
    replica_id: str
    gpu: str
    sleeps: bool
    back_s: float


class IfCalled(msgspec.Struct, kw_only=True):
    """What a request to the model would meet now. ``outcome``: serves | comes | start | wake | evict | hold | refuse.

    ``wait_s``: until it is served, null where that depends on others.
    """

    outcome: str
    summary: str
    gpu: str | None = None
    wait_s: float | None = None
    leaving: tuple[LeavingView, ...] = ()
    candidates: tuple[CandidateView, ...] = ()
    counterfactuals: tuple[str, ...] = ()


class PlannedReplica(msgspec.Struct, kw_only=True):
    replica_id: str
    gpu: str
    state: str
    in_flight: int


class PlannedModel(msgspec.Struct, kw_only=True):
    """``start_s``, ``wake_s``: as measured here, else by what other models took, else assumed. ``if_called``: only when
    asked."""

    model_id: str
    replicas: tuple[PlannedReplica, ...]
    in_flight: int
    held: int
    start_s: float
    wake_s: float
    if_called: IfCalled | None = None


class PlanDocument(msgspec.Struct, kw_only=True):
    """``actions``: what is decided from this snapshot; empty when nothing is to be done.

    ``what_if``: what was taken to be so although it is not.
    """

    object: str = "plan"
    snapshot_id: str
    at_unix_s: float
    simulated: bool
    policies: dict[str, str | float | int | bool | None]
    what_if: str | None
    actions: tuple[PlannedAction, ...]
    models: tuple[PlannedModel, ...]


DOCUMENTS = (PlanDocument,)
