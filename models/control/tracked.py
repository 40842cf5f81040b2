"""A replica as the loop follows it: the one mutable noun of control, owned by the loop alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.control.costs import UNKNOWN_TIER
from models.control.footprints import Held
from models.control.lifecycle import Event, after
from models.fleet.protocol import FleetNode, WeightsTier
from models.runtimes.protocol import EngineStatus, Measured
from models.store.records import ReplicaRecord
from packers.types import Footprint, GpuId, ModelId, NodeId, Replica, ReplicaId, ReplicaState

NOTHING = Held()


@dataclass(slots=True)
class Tracked:
    id: ReplicaId
    model: ModelId
    node: NodeId
    gpu: GpuId
    footprint: Footprint
    endpoint: str
    control: str
    card_hash: str
    simulated: bool = False  # its GPU is
    state: ReplicaState = ReplicaState.STARTING
    reason: str = ""
    state_since_s: float = 0.0
    last_used_s: float = 0.0
    in_flight: int = 0
    pid: int | None = None
    start_s: float | None = None
    measured: dict[str, int] | None = None
    detail: dict[str, str] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)
    held: Held = NOTHING  # the most it was measured to hold while it served
    owed: Footprint | None = None  # what it has to reserve, once there is room: it holds so much
    draining_to: ReplicaState | None = None
    drain_version: int = 0  # the route table that first showed it as draining
    was_asleep: bool = False  # it is being ended out of its sleep: it holds no more than it held asleep
    ending: bool = False  # the fleet has been told to sleep or stop it
    ending_since_s: float = 0.0
    woke: bool = False  # its last start was out of its sleep
    began_tier: WeightsTier = UNKNOWN_TIER  # where its weights were when it was started
    cold: bool = False  # it failed a canary: started from the source, with no stored layout trusted
    cold_since_s: float = 0.0
    ready_since_s: float = 0.0
    lost_reason: str = ""  # why its process went away while it was being started; the start itself will say so, too
    adopted: bool = False  # begun by an earlier controller: nobody knows how long its start took
    replaces: ReplicaId | None = None  # it takes that one's place once it serves
    out_of_reach: bool = False  # its node does not answer: it may well serve, and can be told nothing
    address: str | None = None  # where gateways of other nodes reach it
    decision: str = ""  # the key of the decision that it is in transition by (``models.control.journal``)
    version: int = 0  # grows with every change

    def __setattr__(self, name: str, value: object) -> None:
        _SET[name](self, value)
        _SET["version"](self, getattr(self, "version", 0) + 1)

    def happens(self, event: Event, reason: str, now: float) -> None:
        """Raises IllegalTransition, and then nothing has happened."""
        state = after(self.state, event)
        self.was_asleep = self.state is ReplicaState.ASLEEP and event is Event.LEAVES
        if event is Event.WAKES:
            self.woke, self.adopted = True, False
        self.state, self.reason, self.state_since_s = state, reason, now
        if state is not ReplicaState.DRAINING:
            self.draining_to, self.ending = None, False

    def put_down(self, reason: str, now: float) -> None:
        """The fleet has been told to end it, whatever it is at; what it has reserved stays so until it is gone.
        Raises IllegalTransition."""
        state = after(self.state, Event.PUT_DOWN)
        self.was_asleep = self.was_asleep or self.state is ReplicaState.ASLEEP
        self.state, self.reason, self.state_since_s = state, reason, now
        self.draining_to, self.ending, self.ending_since_s = ReplicaState.DEAD, True, now

    def learn(self, status: EngineStatus) -> None:
        """Take over what the engine says of itself."""
        self.pid = status.pid
        self.address = address_of(status)
        self.start_s = status.timings_s.get("ready", self.start_s)
        self.timings_s = {name: round(spent_s, 4) for name, spent_s in status.timings_s.items()}
        self.detail = dict(status.detail)
        if status.measured is not None:
            self.measured = measured_dict(status.measured, Held.of(status.measured, self.simulated))

    @property
    def holds_bytes(self) -> int:
        """Of its GPU, as its engine said last."""
        return sum((self.measured or {}).get(kind, 0) for kind in ("weights", "kv_cache", "overhead"))

    def as_replica(self, pinned: bool, priority: int) -> Replica:
        """For packers, a sleeping replica that is being ended is ASLEEP until it is gone. What cannot be reached is
        pinned where it is; a start there is nothing to wait for, so another one may be made."""
        stranded = self.out_of_reach and self.state is ReplicaState.STARTING
        state = ReplicaState.ASLEEP if self.was_asleep else ReplicaState.DRAINING if stranded else self.state
        pinned |= self.out_of_reach
        return Replica(
            id=self.id,
            model=self.model,
            gpu=self.gpu,
            state=state,
            footprint=self.footprint,
            in_flight=self.in_flight,
            last_used_s=self.last_used_s,
            state_since_s=self.state_since_s,
            pinned=pinned,
            priority=priority,
            draining_to=ReplicaState.DEAD if stranded else self.draining_to,
            replaces=self.replaces,
        )

    def as_record(self) -> ReplicaRecord:
        return ReplicaRecord(
            replica_id=self.id,
            model_id=self.model,
            node=self.node,
            gpu=self.gpu,
            state=self.state.value,
            reason=self.reason,
            state_since_unix_s=self.state_since_s,
            endpoint=self.endpoint,
            control=self.control,
            pid=self.pid,
            footprint=footprint_dict(self.footprint),
            measured=self.measured,
            in_flight=self.in_flight,
            last_used_unix_s=self.last_used_s,
            start_s=self.start_s,
            card_hash=self.card_hash,
            replaces=self.replaces,
            detail=self.detail,
            timings_s=self.timings_s,
            cold=self.cold,
            address=self.address,
            decision=self.decision,
        )


# dataclass(slots=True) makes the class anew: what ``super()`` means in a method of it is the one before.
_SET = {name: Tracked.__dict__[name].__set__ for name in Tracked.__slots__}


def address_of(status: EngineStatus) -> str | None:
    """The URL of its TCP port; None: it serves its own node alone."""
    host = status.order.tcp_host
    if status.tcp_port is None:
        return None
    return f"http://[{host}]:{status.tcp_port}" if ":" in host else f"http://{host}:{status.tcp_port}"


def measured_dict(measured: Measured, held: Held) -> dict[str, int]:
    """``held``: what of it counts as GPU memory."""
    found = {
        **held_dict(held),
        "shared": measured.shared_bytes,
        "rss": measured.rss_bytes,
    }
    return found if measured.device_bytes is None else {**found, "device": measured.device_bytes}


def held_dict(held: Held) -> dict[str, int]:
    return {"weights": held.weights_bytes, "kv_cache": held.kv_cache_bytes, "overhead": held.overhead_bytes}


def footprint_dict(footprint: Footprint) -> dict[str, int]:
    return {
        "weights": footprint.weights_bytes,
        "kv_cache": footprint.kv_cache_bytes,
        "overhead": footprint.overhead_bytes,
        "residue": footprint.residue_bytes,
        "host": footprint.host_bytes,
    }


def socket_paths(node: FleetNode, replica: ReplicaId) -> tuple[str, str]:
    """(HTTP socket, control socket) of a replica on its node."""
    return f"{node.run_dir}/{replica}.http", f"{node.run_dir}/{replica}.ctl"
