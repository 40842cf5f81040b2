"""The service's configuration, as frozen values. Sizes are bytes and times seconds once read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from models.catalog.card import ModelCard
from models.catalog.errors import WrongValue
from models.catalog.fields import Bytes, Count, Name, Seconds, Section
from models.catalog.gateway import GatewaySettings as GatewaySettings
from models.catalog.gpus import SimulatedGpu, exact_text, parse_simulated
from models.catalog.policies import registries
from models.catalog.problems import did_you_mean
from models.weights.records import Settings
from packers.decide import Policies
from packers.defrag.moves import Budget
from packers.residency.patience import LEAST_SWAPS_PER_MINUTE
from packers.types import PoolKind

_GPU_SCHEMA = {
    "type": "string",
    "description": "Simulated GPUs of each node, like 2x1GiB or 2x1GiB,1x4GiB; 2x1GiB@20GiB/s gives them a bus",
}


def _simulated_gpus(value: object) -> tuple[SimulatedGpu, ...]:
    """As written, or as read already (a configuration that was dumped is read again). Raises UnitError."""
    if isinstance(value, list | tuple):
        return tuple(gpu for each in value for gpu in _one_or_more(each))
    return parse_simulated(value)


def _one_or_more(value: object) -> tuple[SimulatedGpu, ...]:
    if isinstance(value, SimulatedGpu):
        return (value,)
    return parse_simulated(f"{value}B" if type(value) is int else value)


def _as_written(gpus: tuple[SimulatedGpu, ...]) -> list[int | str]:
    return [exact_text(gpu) if gpu.link_bytes_per_s else gpu.memory_bytes for gpu in gpus]


SimulatedGpus = Annotated[
    tuple[SimulatedGpu, ...],
    BeforeValidator(_simulated_gpus),
    PlainSerializer(_as_written),
    WithJsonSchema(_GPU_SCHEMA),
]


class GpuChoice(Section):
    """Simulated GPUs of every node, or the real ones. One of the two."""

    simulated: SimulatedGpus | None = None
    real: bool = False

    @model_validator(mode="after")
    def _one_of_two(self) -> GpuChoice:
        if (self.simulated is not None) == self.real:
            said = "names both simulated and real GPUs" if self.real else "names no GPUs"
            raise WrongValue(said, "write either simulated: 2x1GiB or real: true; leave gpus out to find real ones")
        return self


_DEFAULTS = Policies()
_BUDGET = _DEFAULTS.defrag_budget


class DefragBudget(Section):
    """What tidying up may do (``packers.defrag.moves.Budget``)."""

    moves: Count = Field(default=_BUDGET.moves, description="Replicas on the move at once")
    moved: Bytes | None = Field(default=_BUDGET.moved_bytes, description="Weights loaded for them; default: any")
    payback: Seconds = Field(default=_BUDGET.payback_s, description="For how long a gain is counted")
    settle: Seconds = Field(default=_BUDGET.settle_s, description="A replica stays for so long after it became ready")
    busy: bool = Field(default=_BUDGET.busy, description="Move replicas with requests in flight, too; they finish them")

    def budget(self) -> Budget:
        return Budget(
            moves=self.moves,
            moved_bytes=self.moved,
            payback_s=self.payback,
            settle_s=self.settle,
            busy=self.busy,
        )


class PolicyNames(Section):
    """Which policies decide (``packers.decide.Policies``)."""

    placement: str = _DEFAULTS.placement
    eviction: str = _DEFAULTS.eviction
    scaling: str = _DEFAULTS.scaling
    defrag: str = _DEFAULTS.defrag
    defrag_budget: DefragBudget = DefragBudget()
    patience: Seconds | None = Field(
        default=_DEFAULTS.patience_s,
        description="Who has waited for so long comes first, and what was just started stays a while; null for neither",
    )
    swaps_per_minute: Annotated[float, Field(ge=LEAST_SWAPS_PER_MINUTE, le=60_000)] | None = Field(
        default=_DEFAULTS.swaps_per_minute,
        description="So often replicas are evicted from one GPU for others at most; null for no bound",
    )
    prewarm: bool = Field(default=_DEFAULTS.prewarm, description="Bring models back before they are asked for")
    look_at: Annotated[Count, Field(ge=1)] = Field(
        default=_DEFAULTS.look_at, description="GPUs of a larger cluster that are looked at closely at a time"
    )

    @field_validator("placement", "eviction", "scaling", "defrag")
    @classmethod
    def _is_known(cls, value: str, info: ValidationInfo) -> str:
        return _known(value, registries()[str(info.field_name)], f"{info.field_name} policy")

    def policies(self) -> Policies:
        """As the packer takes them."""
        given = dict(self)
        return Policies(patience_s=given.pop("patience"), **{**given, "defrag_budget": self.defrag_budget.budget()})


class PoolSettings(Section):
    """GPUs under one kind of contract."""

    name: Name
    kind: PoolKind = PoolKind.OWNED
    price_per_gpu_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    reclaims_per_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0, description="How often one of its GPUs is taken away, on average"
    )
    gpus: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Ids of its GPUs, as `roundhouse gpus` shows them; node-1/* for all of a node. Nodes that joined "
        "as part of this pool need not be named",
    )


class ReservationSettings(Section):
    """GPU memory that nobody but these models takes (``packers.guarantees``)."""

    name: Name
    models: tuple[Name, ...] = Field(default=(), description="The ids of those that it is kept for")
    tenant: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None, description="And all that are owned_by this one"
    )
    gpus: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=("*",), description="Ids of GPUs, as `roundhouse gpus` shows them; node-1/* for all of a node"
    )
    memory: Annotated[Bytes, Field(gt=0)] = Field(description="Of each of these GPUs")

    @field_validator("gpus", mode="before")
    @classmethod
    def _one_or_more_patterns(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_for_somebody(self) -> ReservationSettings:
        if not self.models and self.tenant is None:
            raise WrongValue("names nobody that it is for", "add models: [...] or tenant: NAME")
        return self


_WEIGHTS = Settings()


class WeightsSettings(Section):
    """The store of weights on each node (``models.weights``)."""

    quota: Bytes | None = Field(
        default=None, description="Of downloads and layouts together, the least used go first; default: the disk"
    )
    download: bool = Field(
        default=False,
        description="A start may fetch what is not here, of cards that declare their weights; "
        "else `roundhouse weights import` does",
    )
    scrub_rate: Bytes = Field(
        default=_WEIGHTS.scrub_bytes_per_s, description="Bytes a second that are read again in the background; 0: none"
    )
    scrub_every: Seconds = Field(default=_WEIGHTS.scrub_every_s, description="How often each file is read again")
    peer_rate: Bytes = Field(
        default=_WEIGHTS.peer_bytes_per_s,
        description="Bytes a second that a node gives to others, shared evenly among them; 0: as fast as it goes",
    )

    def settings(self) -> Settings:
        """As the store takes them."""
        return Settings(
            quota_bytes=self.quota,
            scrub_bytes_per_s=self.scrub_rate,
            scrub_every_s=self.scrub_every,
            peer_bytes_per_s=self.peer_rate,
        )


class DecisionSettings(Section):
    """The decision record as a file besides (``models.control.decision_file``)."""

    export: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="A file that every decision is written to, one JSON object a line; relative to this"
    )
    rotate: Annotated[Bytes, Field(ge=1)] = Field(
        default=64 << 20, description="It is put aside and packed when it is as large as that"
    )
    keep: Count = Field(default=8, description="How many of those that were put aside are kept")


class ServiceConfig(Section):
    """Everything an operator configures. ``models`` holds the cards of the file and those of ``models_dir``."""

    gpus: GpuChoice | None = Field(default=None, description="Left out: the real GPUs of each node")
    host_memory: Bytes | None = Field(default=None, description="RAM of each node for sleeping models; default half")
    gateway: GatewaySettings = GatewaySettings()
    policies: PolicyNames = PolicyNames()
    weights: WeightsSettings = WeightsSettings()
    decisions: DecisionSettings = DecisionSettings()
    pools: tuple[PoolSettings, ...] = Field(default=(), description="The first that names a GPU has it; else owned")
    reservations: tuple[ReservationSettings, ...] = Field(
        default=(), description="GPU memory kept for some models; of one that is in several, the first on a GPU counts"
    )
    drain_timeout: Seconds = Field(default=30.0, description="How long a draining replica may finish its requests")
    models: tuple[ModelCard, ...] = Field(default=(), description="Model cards; names are unique across all of them")
    models_dir: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="A folder of *.yaml files, each a card or a list of cards; relative to this file"
    )

    def card(self, name: str) -> ModelCard | None:
        """The card that is served under this id or alias."""
        return next((card for card in self.models if name in card.served_names), None)

    def with_gpus(self, spec: str) -> ServiceConfig:
        """The same service on simulated GPUs, ``2x1GiB`` per node. Raises UnitError."""
        return self.model_copy(update={"gpus": GpuChoice(simulated=parse_simulated(spec))})

    @property
    def simulated(self) -> tuple[SimulatedGpu, ...] | None:
        """The simulated GPUs of each node; None means that the real ones are used."""
        return self.gpus.simulated if self.gpus is not None else None

    @property
    def simulated_gpus(self) -> tuple[int, ...] | None:
        """Their memory in bytes."""
        return None if self.simulated is None else tuple(gpu.memory_bytes for gpu in self.simulated)

    def host_bytes(self, ram_bytes: int) -> int:
        """Host RAM of a node that sleeping replicas may hold together, given the RAM the node has."""
        return self.host_memory if self.host_memory is not None else ram_bytes // 2


def _known(value: str, names: Collection[str], noun: str) -> str:
    if value not in names:
        raise WrongValue(f"{value[:60]!r} is not a {noun}", did_you_mean(value, names))
    return value
