"""A model card: one catalog entry, as the operator writes it."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationInfo, field_validator, model_validator

from models.catalog.engine_args import check_engine_args, plain_name
from models.catalog.errors import WrongValue
from models.catalog.fields import AdapterFolder, Count, Name, Price, PriceUnit, Seconds
from models.catalog.footprint import SIMULATED, Declared, DeviceDefaults
from models.catalog.schedule import Hours
from models.catalog.source_info import SourceInfo
from models.weights.errors import SourceRefused
from models.weights.urls import HF_SCHEME, is_remote, parse_remote
from packers.types import Footprint

CODE_ARGUMENT = "python_class"  # names the class to the torch runtime
_CLASS_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
# What a running engine was started from; a change of anything else needs no new engine.
_ENGINE_FIELDS = frozenset(
    {"model_id", "model_source", "runtime", "engine_args", "declared", "aliases", "adapters", "allow_code", "repack"},
)


class ModelCard(BaseModel):
    """One model. Sizes are bytes and times seconds once read, however they were written."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_id: Name = Field(description="The name that clients call it by")
    model_source: str = Field(
        description="A folder, relative to the configuration file, hf://org/repo@revision or s3://bucket/prefix"
    )
    runtime: Literal["vllm", "torch"] = "vllm"
    engine_args: dict[str, JsonValue] = Field(default={}, description="Passed to the engine, for example max_model_len")
    declared: Declared = Field(default=Declared(), description="Memory by kind; what is left out is estimated")
    min_replicas: Count = Field(default=0, description="Kept running without demand")
    max_replicas: Annotated[Count, Field(ge=1)] = Field(default=1, validate_default=True)
    schedule: tuple[Hours, ...] = Field(default=(), description="Hours in which more than min_replicas are kept")
    ttl: Seconds = Field(default=600.0, description="An idle replica is put to sleep after this time")
    priority: Annotated[int, Field(strict=True, ge=-1_000_000, le=1_000_000)] = 0
    pinned: bool = Field(default=False, description="Never evicted for another model")
    aliases: tuple[Name, ...] = Field(default=(), description="Other names that clients may use")
    adapters: dict[Name, AdapterFolder] = Field(
        default={}, description="LoRA adapters by the name that clients call each by, and its folder"
    )
    can_sleep: bool = Field(default=True, description="May keep its weights in host RAM instead of being stopped")
    target_in_flight: Annotated[Count, Field(ge=1)] = Field(default=32, description="Wanted requests per replica")
    max_wait: Annotated[Seconds, Field(gt=0)] | None = Field(
        default=None, description="What a request should wait at most, for autoscaling; default: a share of a start"
    )
    gpu_types: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(), description="Names of the GPUs it may run on, as `roundhouse gpus` shows them; left out: any"
    )
    affinity: tuple[Name, ...] = Field(default=(), description="Models on whose nodes it wants to be")
    anti_affinity: tuple[Name, ...] = Field(
        default=(), description="Models with which it shares no node; its own id keeps its replicas apart"
    )
    tensor_parallel: Annotated[Count, Field(ge=1)] = Field(default=1, description="GPUs that a replica spans; only 1")
    allow_code: str | None = Field(
        default=None,
        validate_default=True,
        description="The Python class, module:Class, that the torch runtime runs for this model",
    )
    repack: bool = Field(
        default=True,
        description="May copy its shared mapped weights into a faster private form while it serves, for more host RAM",
    )
    owned_by: Annotated[str, Field(min_length=1, max_length=128)] = "roundhouse"
    price: dict[PriceUnit, Price] = Field(default={}, description="What it costs to call it, by unit; shown to clients")

    @model_validator(mode="before")
    @classmethod
    def _allowed_code_is_run(cls, data: Any) -> Any:
        """The class that is allowed is the one the runtime is told to make; it need not be written twice."""
        if not isinstance(data, dict) or data.get("runtime") != "torch" or not isinstance(data.get("allow_code"), str):
            return data
        given = data.get("engine_args", {})
        if not isinstance(given, dict) or CODE_ARGUMENT in (plain_name(str(name)) for name in given):
            return data
        return {**data, "engine_args": {**given, CODE_ARGUMENT: data["allow_code"]}}

    @field_validator("model_source")
    @classmethod
    def _check_source(cls, value: str) -> str:
        try:
            parse_remote(value)
        except SourceRefused as refused:
            raise WrongValue(refused.message, refused.cure) from None
        return value

    @field_validator("engine_args")
    @classmethod
    def _check_engine_args(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        return check_engine_args(value)

    @field_validator("max_replicas")
    @classmethod
    def _check_replicas(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("min_replicas", 0)
        if value < least:
            raise WrongValue(f"{value} is below min_replicas ({least})", f"set it to {least} or more")
        return value

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, value: tuple[Hours, ...], info: ValidationInfo) -> tuple[Hours, ...]:
        most = info.data.get("max_replicas")
        for index, hours in enumerate(value):
            if most is not None and hours.replicas > most:
                cure = "raise max_replicas, or keep fewer"
                raise WrongValue(f"{hours.replicas} is above max_replicas ({most})", cure, f"[{index}].replicas")
        return value

    @field_validator("aliases")
    @classmethod
    def _check_aliases(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        taken = {info.data.get("model_id")}
        for index, alias in enumerate(value):
            if alias in taken:
                raise WrongValue(f"{alias!r} names this model already", "remove it", f"[{index}]")
            taken.add(alias)
        return value

    @field_validator("adapters")
    @classmethod
    def _check_adapters(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if value and info.data.get("runtime") != "vllm":
            raise WrongValue("only the vllm runtime has adapters", "remove them, or set runtime: vllm")
        taken = {info.data.get("model_id"), *info.data.get("aliases", ())}
        for name in value:
            if name in taken:
                raise WrongValue(f"{name!r} names the model itself", "call the adapter by another name", f".{name}")
        return value

    @field_validator("tensor_parallel")
    @classmethod
    def _check_tensor_parallel(cls, value: int) -> int:
        if value > 1:
            raise WrongValue(f"{value} is not possible: an engine runs on one GPU", "remove it, or set it to 1")
        return value

    @field_validator("allow_code")
    @classmethod
    def _check_code(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("runtime") == "torch":
            runs = info.data.get("engine_args", {}).get(CODE_ARGUMENT)
            if runs not in (None, value):
                raise WrongValue(f"engine_args.{CODE_ARGUMENT} is {str(runs)[:60]!r}", f"allow it: allow_code: {runs}")
        elif value is not None:
            raise WrongValue("only the torch runtime runs code by name", "remove it, or set runtime: torch")
        if value is not None and not _CLASS_NAME.fullmatch(value):
            raise WrongValue(f"{value[:60]!r} does not name a class", "write it like package.module:Class")
        return value

    @property
    def served_names(self) -> tuple[str, ...]:
        """Every name that clients may call it by, its id first; those of its adapters as well."""
        return (self.model_id, *self.aliases, *self.adapters)

    @property
    def on_hub(self) -> bool:
        return self.model_source.startswith(HF_SCHEME)

    @property
    def is_remote(self) -> bool:
        """Whether its weights have to be fetched before it can start."""
        return is_remote(self.model_source)

    def footprint(self, source: SourceInfo | None, defaults: DeviceDefaults = SIMULATED) -> Footprint:
        """As declared, else estimated from the source; without a source its weights count only as declared."""
        weights_bytes = source.weights_bytes if source is not None else 0
        return self.declared.footprint(weights_bytes, self.runtime, defaults)

    @cached_property
    def hash(self) -> str:
        """Equal for cards that mean the same, however they are written; stable across processes and versions."""
        return _digest(self.model_dump(mode="json", exclude_defaults=True))

    @cached_property
    def engine_hash(self) -> str:
        """Changes only with what a running engine depends on: not with ttl, priority or replica counts."""
        return _digest(self.model_dump(mode="json", exclude_defaults=True, include=set(_ENGINE_FIELDS)))


def _digest(content: dict[str, Any]) -> str:
    if "aliases" in content:
        content["aliases"] = sorted(content["aliases"])
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
