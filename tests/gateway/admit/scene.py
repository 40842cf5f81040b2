"""An admission on a clock that the story moves, with callers that remember what they were told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from gateway.accounts import Account
from gateway.admit import Admission, Claim, Outcome
from gateway.clock import Clock
from gateway.demand import Demand
from gateway.endpoints import ENDPOINTS
from gateway.errors import GatewayError
from gateway.inquiry import Caller, Inquiry, Peek
from gateway.routing import Routes
from models.store.records import Failure, KeyRecord, ModelRoute, ReplicaRoute, RouteTable
from models.store.tenancy import HouseRecord, ProjectRecord, TenantRecord
from packers.types import ModelId, ReplicaId

EPOCH_UNIX_S = 1_700_000_000.0
TICK_S = 0.1
M = ModelId("m")


@dataclass(eq=False)
class Request:
    """One request and its fate. ``told``: how often it heard of it after it was held."""

    inquiry: Inquiry
    claim: Claim | None = None
    error: GatewayError | None = None
    held: bool = False
    told: int = 0

    def admitted(self, claim: Claim) -> None:
        self.claim = claim
        self.told += 1

    def refused(self, error: GatewayError) -> None:
        self.error = error
        self.told += 1

    @property
    def waits(self) -> bool:
        return self.held and not self.told

    @property
    def at(self) -> str:
        """The replica that it was sent to."""
        assert self.claim is not None, f"it has no place: {self.error or 'held'}"
        return self.claim.replica


def inquiry(
    model: str = "m",
    tenant: str = "t",
    *,
    tokens: int = 10,
    deadline_s: float = 60.0,
    weight: float = 1.0,
    priority: int = 0,
    allowed: int = 100,
    session: int = 0,
    prefix: int = 0,
    avoid: tuple[str, ...] = (),
    share: float = 0.0,
    key: str = "",
    key_weight: float = 1.0,
) -> Inquiry:
    caller = Caller(tenant, weight=weight, priority=allowed, share=share, key_id=key, key_weight=key_weight)
    return Inquiry(
        endpoint=ENDPOINTS[0],
        account=account(caller),
        caller=caller,
        headers=[],
        body=b"{}",
        peek=Peek(model, tokens=tokens, prefix=prefix),
        deadline_s=deadline_s,
        session=session,
        priority=priority,
        avoid=avoid,
    )


def account(caller: Caller) -> Account:
    key = KeyRecord(key_id=caller.tenant, name="", scopes=("inference",), prefix="", created_unix_s=0.0)
    tenant = TenantRecord(tenant_id=caller.tenant, weight=caller.weight)
    return Account(caller, key, ProjectRecord(name="default"), tenant, HouseRecord())


class Scene:
    def __init__(self, hold_limit: int = 100, seed: int = 1, **kwargs: Any) -> None:
        self.now_s = 100.0
        self.soon: list[Callable[[], None]] = []
        self.demand = Demand()
        self.clock = Clock(unix=lambda: EPOCH_UNIX_S + self.now_s, monotonic=lambda: self.now_s)
        self.admission = Admission(
            Routes(), self.demand, self.clock, hold_limit, rng=Random(seed), later=self.soon.append, **kwargs
        )
        self._version = 0

    # -- the controller's part -------------------------------------------------------------------------------------

    def table(self, *models: ModelRoute) -> None:
        self._version += 1
        assert self.admission.routes.offer(RouteTable(version=self._version, models=models))
        self.admission.routes_changed()

    # -- the callers' part -----------------------------------------------------------------------------------------

    def ask(self, model: str = "m", tenant: str = "t", *, timeout_s: float = 60.0, **kwargs: Any) -> Request:
        """One request: it has a claim or an error at once, or it is held."""
        return self.ask_again(Request(inquiry(model, tenant, deadline_s=self.now_s + timeout_s, **kwargs)))

    def ask_again(self, caller: Request) -> Request:
        caller.claim = caller.error = None
        try:
            route = self.admission.find(caller.inquiry.peek.model)
            self.admission.arrived(route)
            caller.claim = self.admission.admit(caller.inquiry, caller)
            caller.held = caller.claim is None
        except GatewayError as refused:
            caller.error = refused
        return caller

    def end(self, caller: Request, outcome: Outcome = Outcome.OK) -> None:
        assert caller.claim is not None
        self.admission.give_back(caller.claim, outcome)

    def lose(self, caller: Request) -> Request:
        """Its replica breaks; it tries again, as the data plane does."""
        assert caller.claim is not None
        lost = caller.claim
        tries = len(caller.inquiry.avoid)
        again = self.admission.may_retry(lost, tries)
        self.admission.give_back(lost, Outcome.LOST)
        assert again
        caller.inquiry.avoid = (*caller.inquiry.avoid, lost.replica)
        caller.told = 0
        return self.ask_again(caller)

    # -- time ------------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """The event loop goes around until nothing is left to do."""
        while self.soon:
            self.soon.pop(0)()

    def wait(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        self.turn()
        while self.now_s < until_s - 1e-9:
            self.now_s = round(min(until_s, self.now_s + TICK_S), 6)
            self.admission.tick()
            self.turn()

    # -- what is seen ----------------------------------------------------------------------------------------------

    def flying(self, replica: str) -> int:
        return self.demand.on_replica(ReplicaId(replica))

    @property
    def held(self) -> int:
        return self.demand.held_count(M)


def replica(name: str, **kwargs: Any) -> ReplicaRoute:
    return ReplicaRoute(replica_id=name, endpoint=f"unix:/{name}", state=kwargs.pop("state", "ready"), **kwargs)


def model(*replicas: str | ReplicaRoute, name: str = "m", slots: int = 0, **kwargs: Any) -> ModelRoute:
    there = tuple(replica(one, slots=slots) if isinstance(one, str) else one for one in replicas)
    return ModelRoute(model_id=name, replicas=there, **kwargs)


def failed(at_s: float, retry_after_s: float = 1.0, *, permanent: bool = False) -> Failure:
    at_unix_s = EPOCH_UNIX_S + at_s
    return Failure(
        message="The weights are cut off.",
        code="model_start_failed",
        at_unix_s=at_unix_s,
        retry_at_unix_s=at_unix_s + retry_after_s,
        permanent=permanent,
    )
