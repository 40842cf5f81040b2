"""What is written to Redis, as msgspec structs (JSON). Times are Unix seconds, sizes bytes."""

from __future__ import annotations

from typing import Any

import msgspec

from models.store.base import Struct
from models.store.tenancy import LimitRule


class Failure(Struct, frozen=True):
    """Why a model could not be started. ``permanent``: no point in trying again before the card, what its source holds,
    or the GPUs change."""

    message: str  # one clear sentence, safe to show to callers
    code: str  # model_start_failed | model_keeps_crashing | insufficient_gpu_memory
    at_unix_s: float
    retry_at_unix_s: float
    permanent: bool = False
    fault: str = "other"  # weights | canary | memory | code | hang | other
    attempts: int = 1  # failures in a row


class ReplicaRoute(Struct, frozen=True):
    """``slots``: requests that it works on at once, over all gateway workers; 0: not known, then nothing is held back
    for want of one. ``serves_as``: the model's name there, where it differs from the one that callers use."""

    replica_id: str
    endpoint: str  # "unix:/path/to.sock", "http://host:port/base" or "https://..."
    state: str  # "ready" may get new requests; "draining" may only finish those it has
    revision: str = ""
    slots: int = 0
    weight: float = 1.0  # its share of new requests beside other replicas of the same revision
    serves_as: str | None = None
    node: str = ""  # where it runs; a gateway there uses ``endpoint``, a unix socket of that machine
    address: str | None = None  # "http://host:port" for gateways of other nodes, which show the cluster's key there
    memory_bytes: int = 0  # of its GPU; 0: not known
    gpu_share: float = 0.0  # the same, of all that its GPU has


class ModelRoute(Struct, frozen=True):
    model_id: str
    aliases: tuple[str, ...] = ()
    runtime: str = "vllm"
    # gpu | host, the best that any replica is on; without one where the weights are: page_cache | disk | remote.
    tier: str = "disk"
    replicas: tuple[ReplicaRoute, ...] = ()
    failure: Failure | None = None
    max_model_len: int | None = None
    created_unix_s: int = 0
    owned_by: str = "roundhouse"
    # generate, tokenize, embed, score, classify, image, speech, transcribe, predict; none: not known before it runs.
    capabilities: tuple[str, ...] = ()
    # LoRA adapters that its engines have loaded: each is called by its own name.
    adapters: tuple[str, ...] = ()
    # Revision -> its share of new requests; empty: all revisions alike.
    traffic: dict[str, float] = msgspec.field(default_factory=dict)
    start_estimate_s: float | None = None  # from demand to ready, as measured; None: not known
    # Unit ("input_token", "output_token", "gpu_second", "request") -> exact decimal.
    price: dict[str, str] = msgspec.field(default_factory=dict)


class RouteTable(Struct, frozen=True):
    """Complete picture for gateways; a later ``version`` replaces an earlier one.

    ``written_unix_s``: by the controller's clock, which all times in it go by.
    """

    version: int
    models: tuple[ModelRoute, ...] = ()
    written_unix_s: float | None = None


class ModelDemand(Struct, frozen=True):
    """``arrived``, ``finished`` and ``busy_s`` (how long the finished ones had their places, in all) only ever grow,
    from zero when the worker starts: a lost report loses no request."""

    in_flight: int = 0
    held: int = 0
    oldest_held_unix_s: float | None = None
    last_request_unix_s: float = 0.0
    earliest_deadline_unix_s: float | None = None  # when the first of the held ones gives up
    arrived: int = 0
    finished: int = 0
    busy_s: float = 0.0


class DemandReport(Struct, frozen=True):
    """One gateway worker's view; the key expires, so a dead worker leaves no ghost demand.

    ``routes_version`` is the newest table this worker routes by: it sends nothing new to a replica that this version
    shows as draining. ``replicas``: requests in flight per replica. ``since_unix_s``: when its counters began.
    ``number``: one more for each report of this worker. Times are by the worker's clock, which is nobody else's.
    """

    worker: str
    routes_version: int
    sent_unix_s: float
    since_unix_s: float = 0.0
    models: dict[str, ModelDemand] = msgspec.field(default_factory=dict)
    replicas: dict[str, int] = msgspec.field(default_factory=dict)
    number: int = 0


class Command(Struct, frozen=True):
    """An operator's order to the controller.

    verb: wake | sleep | stop (of ``model_id``), warm (``replicas`` of ``model_id`` until ``until_unix_s``; 0 replicas:
    no more), drain | undrain (of ``gpu``), cordon | uncordon | drain | reclaim (of ``node``, the last to be gone by
    ``until_unix_s``), defrag (at most ``moves``), snapshot (is put under its key), record (for ``for_s`` from now, 0 to
    end it), reload. ``dry_run``: only say what would be done.
    """

    id: str
    verb: str
    model_id: str | None = None
    wait: bool = False  # reply when it is done, not when it is accepted
    gpu: str | None = None
    for_s: float = 0.0
    node: str | None = None
    replicas: int | None = None
    until_unix_s: float | None = None
    moves: int | None = None
    dry_run: bool = False


class CommandReply(Struct, frozen=True):
    id: str
    ok: bool
    message: str
    code: str | None = None  # model_not_found | insufficient_gpu_memory | busy | ...
    actions: list[str] = msgspec.field(default_factory=list)
    detail: dict[str, Any] = msgspec.field(default_factory=dict)  # what the verb has to tell besides, such as a plan


class GpuRecord(Struct, frozen=True):
    id: str
    node: str
    index: int
    name: str
    simulated: bool
    memory_bytes: int
    reserved_bytes: int
    free_bytes: int
    cordoned: bool = False  # an operator drains it: nothing new goes there, what is there leaves
    measured_bytes: int = 0  # what the replicas on it say that they hold
    used_bytes: int | None = None  # by its driver, other programs included; None where there is no driver to ask
    pool: str = "owned"
    lost: str = ""  # why nothing can be placed there any more, by its driver or its node; "" while all is well
    closed: str = ""  # why nothing new goes there for the time being: its node is away, cordoned, drained or leaving
    # Reservation -> bytes that only its models may hold.
    kept: dict[str, int] = msgspec.field(default_factory=dict)


class NodeRecord(Struct, frozen=True):
    id: str
    address: str
    host_bytes: int
    host_reserved_bytes: int
    alive: bool = True
    link_bytes_per_s: float = 0.0  # to each of its GPUs; 0: not known
    # ready; away: it does not answer, what it serves goes on; leaving: it will be taken away; lost: given up.
    state: str = "ready"
    reason: str = ""
    cordoned: bool = False
    drained: bool = False  # an operator wants it empty: what is there leaves, too
    leaving_unix_s: float | None = None  # when it will be gone
    reclaimed: bool = False  # that it will be is an operator's word


class ReplicaRecord(Struct, frozen=True):
    """A replica as the controller knows it; enough to re-adopt it after a restart."""

    replica_id: str
    model_id: str
    node: str
    gpu: str
    state: str
    reason: str
    state_since_unix_s: float
    endpoint: str
    control: str
    pid: int | None
    footprint: dict[str, int]  # reserved: weights, kv_cache, overhead, residue, host
    measured: dict[str, int] | None = None  # weights, kv_cache, overhead, shared, rss, and by the driver: device
    in_flight: int = 0
    last_used_unix_s: float = 0.0
    start_s: float | None = None  # measured time from order to ready
    card_hash: str = ""
    replaces: str | None = None  # the replica whose place it takes once it serves
    # What its engine says of how it runs: path (fast, plain), weights (copied, mapped, packed, pinned) ...
    detail: dict[str, str] = msgspec.field(default_factory=dict)
    timings_s: dict[str, float] = msgspec.field(default_factory=dict)  # phases of its start, its latest sleep and wake
    cold: bool = False  # quarantined and started from the source again, with no stored layout trusted
    address: str | None = None  # where gateways of other nodes reach it
    decision: str = ""  # the key of the decision that it is being started, put to sleep or stopped by


class Reservation(Struct, frozen=True):
    replica_id: str
    model_id: str
    gpu: str
    node: str
    gpu_bytes: int
    host_bytes: int


class WarmRecord(Struct, frozen=True):
    """Replicas that are kept for a while: ``by`` an operator's order, or by the card's schedule.

    ``asked``: so many; ``replicas``: as max_replicas allows. ``from_unix_s``: when they are to be there;
    ``until_unix_s``: null until it is called off. ``state``: planned | coming | warm | short, then ``reason`` says what
    is in the way. ``ready``: of the model's replicas now.
    """

    model_id: str
    by: str
    asked: int
    replicas: int
    from_unix_s: float
    until_unix_s: float | None
    state: str
    ready: int = 0
    reason: str = ""


class ClusterRecord(Struct, frozen=True):
    """Whose keys lie under a prefix. ``cluster_id``: drawn at a cluster's first start, kept in its head's folder."""

    cluster_id: str
    host: str
    since_unix_s: float


class MoveRecord(Struct, frozen=True):
    """One move of a defragmentation. ``state``: starting | shifting (the new one serves, the old one finishes) | done |
    failed | called off. ``took_s``: from the order until the old one was gone."""

    replica_id: str
    model_id: str
    substitute: str
    source: str
    target: str
    state: str
    moved_bytes: int
    gain_gpus: float
    cost_gpu_s: float
    began_unix_s: float
    took_s: float | None = None
    reason: str = ""  # why it failed
    decision: str = ""  # the key of its start


class DefragRecord(Struct, frozen=True):
    """An operator's defragmentation, the last one there was. ``state``: running | aborting | done | aborted.

    ``wanted``: moves that it may make, ``at_once`` at a time; ``planned``: that were found to pay when it began,
    ``gain_gpus``: by them.
    """

    id: str
    state: str
    began_unix_s: float
    wanted: int
    at_once: int
    planned: int
    gain_gpus: float
    empty_gpus_before: int
    largest_free_bytes_before: int
    moves: tuple[MoveRecord, ...] = ()
    ended_unix_s: float | None = None


class FleetRecord(Struct, frozen=True):
    """The controller's whole state, written by it alone, in one key."""

    seq: int
    updated_unix_s: float
    controller_pid: int
    nodes: tuple[NodeRecord, ...] = ()
    gpus: tuple[GpuRecord, ...] = ()
    replicas: tuple[ReplicaRecord, ...] = ()
    ledger: tuple[Reservation, ...] = ()
    routes_version: int = 0
    warm: tuple[WarmRecord, ...] = ()  # by model
    defrag: DefragRecord | None = None
    config_error: str | None = None  # last rejected configuration; the last good one stays in force
    epoch: int = 0  # of the controller that wrote it
    problems: tuple[str, ...] = ()  # what operators should see to, each with its cure
    # When it was written by a clock that cannot be set (``models.clock.since_boot``), and of which boot that is.
    boot: str = ""
    since_boot_s: float = 0.0


class ModelRecord(Struct, frozen=True):
    """A catalog entry as shown to operators.

    ``footprint``: what the next replica reserves; ``footprint_from``: each kind's origin (declared, estimated,
    measured). ``measured``: the most that its replicas were seen to hold; ``excess_bytes``: how much that is beyond
    what the card says, where it is more than 2%. ``costs_s``: medians of its last transitions, by name:
    start_page_cache, start_disk, start_peer, start_remote, cold_start, wake, sleep, stop. ``weights_tier``: where a
    start would find its weights now, "" while nobody has looked. ``quarantined``: how often a canary failed.
    """

    model_id: str
    runtime: str
    source: str
    aliases: tuple[str, ...]
    min_replicas: int
    max_replicas: int
    ttl_s: float
    priority: int
    pinned: bool
    footprint: dict[str, int]
    card_hash: str
    max_model_len: int | None = None
    failure: Failure | None = None
    footprint_from: dict[str, str] = msgspec.field(default_factory=dict)
    measured: dict[str, int] | None = None
    excess_bytes: int = 0
    costs_s: dict[str, float] = msgspec.field(default_factory=dict)
    weights_tier: str = ""
    quarantined: int = 0
    capabilities: tuple[str, ...] = ()


class TransitionMeter(Struct, frozen=True):
    """``counts``: how many took at most as long as the bound of that place, and at last all of them."""

    model_id: str
    transition: str  # start | cold_start | wake | sleep | stop
    tier: str  # that it began from: remote | disk | page_cache | host | gpu
    counts: tuple[int, ...]
    sum_s: float


class EstimateMeter(Struct, frozen=True):
    """How far estimates were from what happened, of transitions that were estimated from measurements. ``counts``: as
    in TransitionMeter, of the differences; ``estimated_s``, ``took_s``: sums."""

    model_id: str
    transition: str  # start | wake | sleep | stop
    counts: tuple[int, ...]
    sum_s: float
    estimated_s: float
    took_s: float


class ControlMeters(Struct, frozen=True):
    """What the controller counts, for /metrics. Counters begin at zero with each controller, but for ``quarantined``.

    ``excess_bytes``: of each model whose replicas hold more than its card says.
    """

    estimates: tuple[EstimateMeter, ...] = ()

    bounds_s: tuple[float, ...] = ()
    transitions: tuple[TransitionMeter, ...] = ()
    quarantined: dict[str, int] = msgspec.field(default_factory=dict)
    lost: dict[str, int] = msgspec.field(default_factory=dict)
    excess_bytes: dict[str, int] = msgspec.field(default_factory=dict)


class DecisionRecord(Struct, frozen=True):
    """One decision with what led to it, or how one came out. ``id`` is the stream id once stored, ``key`` its own name.

    ``of``: the key of the decision whose outcome this is. ``details`` of what is decided: ``estimate_s``,
    ``estimated_from``, ``cost``, ``candidates``, ``counterfactuals``; of an outcome: ``took_s``, ``estimate_s`` ...
    (``models.control.prices``, ``models.control.journal``).
    """

    id: str
    at_unix_s: float
    snapshot_id: str
    # Decided: start | wake | sleep | stop | hold | refuse | defrag. Happened: adopt | ready | asleep | stopped | died
    # | failed | quarantine | excess | catalog | shutdown ...
    action: str
    model_id: str | None
    replica_id: str | None = None
    gpu: str | None = None
    reason: str = ""
    evicted_for: str | None = None
    details: dict[str, Any] = msgspec.field(default_factory=dict)
    key: str = ""
    of: str | None = None


class KeyRecord(Struct, frozen=True):
    """One text of an API key, stored under its SHA-256. ``scopes``: inference, admin:read, admin:write; admin is both.

    A key that is rotated has a second text for a while: a record of its own with the same ``key_id``, so that what is
    the key's (limits, usage, kept responses) goes on. ``expires_unix_s``: this text's end. ``weight``: its share beside
    other keys of its tenant where requests have to wait. ``priority``: the highest it may ask for.
    ``models``, ``endpoints``: patterns of what it may call; none: all that its tenant may.
    """

    key_id: str
    name: str
    scopes: tuple[str, ...]
    prefix: str  # first characters, to recognise it
    created_unix_s: float
    revoked_unix_s: float | None = None
    weight: float = 1.0
    priority: int = 0
    tenant: str = "default"
    project: str = "default"
    models: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ()
    expires_unix_s: float | None = None
    limits: tuple[LimitRule, ...] = ()
