"""Reads what ``roundhouse pack`` shall pack: the service's configuration, or a plain list of models and sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from models.catalog.config import card_files, load_config
from models.catalog.errors import ConfigError, Problem, SourceError, WrongValue
from models.catalog.fields import Bytes, Count, Name
from models.catalog.footprint import CUDA, SIMULATED, Declared
from models.catalog.problems import problem_at, problems_of
from models.catalog.source import check_source, resolve_source
from models.catalog.units import format_bytes
from models.catalog.yaml_file import Document, Loc, read_yaml
from models.home import Home
from packers.static.problem import MOST_MILLI, Item, ProblemError
from packers.types import ModelId

_HOW_COMPUTE = "write the share of a GPU, like 0.25 or 25%"


def _milli(value: object) -> int:
    """Thousandths of a GPU, rounded up. Raises WrongValue."""
    number: object = value
    if isinstance(value, str) and value.strip().endswith("%"):
        number = _float(value.strip()[:-1], value) / 100
    elif isinstance(value, str):
        number = _float(value, value)
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number <= MOST_MILLI / 1000:
        raise WrongValue(f"{str(value)[:60]!r} is not a share of a GPU", _HOW_COMPUTE)
    return -int(-number * 1000 // 1)


def _float(text: str, given: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise WrongValue(f"{given[:60]!r} is not a share of a GPU", _HOW_COMPUTE) from None


class Entry(BaseModel):
    """One model of a plain list. ``memory`` is what a replica takes on each of its GPUs; or ``declared`` by kind."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_id: Name
    replicas: Count = 1
    memory: Bytes | None = None
    declared: Declared | None = None
    tensor_parallel: Annotated[Count, Field(ge=1, le=1024)] = 1
    compute: Annotated[int, BeforeValidator(_milli)] = 0
    anti_affinity: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _one_of_two(self) -> Entry:
        if (self.memory is None) == (self.declared is None):
            said = "is missing" if self.memory is None else "is given beside declared"
            raise WrongValue(said, "write memory: 15GiB, or declared: {weights: ..., kv_cache: ...}", "memory")
        if self.declared is not None and self.declared.weights is None:
            raise WrongValue("is missing", "say how large the weights are", "declared.weights")
        return self

    def item(self, least_kv: bool) -> Item:
        memory_bytes = self.memory
        if memory_bytes is None and self.declared is not None:
            footprint = self.declared.footprint(0, "vllm", CUDA)
            memory_bytes = footprint.gpu_min_bytes if least_kv else footprint.gpu_bytes
        return Item(
            model=ModelId(self.model_id),
            memory_bytes=memory_bytes or 0,
            replicas=self.replicas,
            compute_milli=self.compute,
            gpus=self.tensor_parallel,
            apart_from=frozenset(map(ModelId, self.anti_affinity)),
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """``places``: where in which document each model was read, for messages."""

    items: tuple[Item, ...]
    places: dict[str, tuple[Document, Loc]]

    def problem(self, error: ProblemError) -> Problem:
        document, loc = self.places[str(error.model)]
        item = next(item for item in self.items if item.model == error.model)
        given = document.data
        for part in loc:
            given = given[part]
        if error.field == "memory_bytes" and error.most is not None:
            field = "memory" if "memory" in given else "declared"
            said = f"{format_bytes(item.memory_bytes)} is more than the largest GPU has ({format_bytes(error.most)})"
            cure = "name larger GPUs with --gpus, or spread it over several with tensor_parallel"
        elif error.field == "gpus":
            field, cure = "tensor_parallel", "name larger nodes with --gpus-per-node"
            said = f"{item.gpus} is more than any node has GPUs that it fits on ({error.most})"
        else:
            field, said, cure = "compute", f"{item.compute_milli / 10:g}% is more than a GPU has", "claim at most 100%"
        return problem_at(document, (*loc, field), said, cure)


def read_wanted(path: Path, least_kv: bool) -> Wanted:
    """Raises ConfigError naming file, line and field of everything that is wrong."""
    document = read_yaml(path, path.name)
    rows = _plain_rows(document)
    return _from_service(path, document, least_kv) if rows is None else _from_list(document, rows, least_kv)


def _plain_rows(document: Document) -> list[tuple[Loc, Any]] | None:
    """The entries of a plain list; None when the file is a configuration of the service."""
    data, prefix = document.data, Loc()
    if isinstance(data, dict) and set(data) == {"models"} and isinstance(data["models"], list):
        data, prefix = data["models"], ("models",)
        if any(isinstance(row, dict) and "model_source" in row for row in data):
            return None
    if not isinstance(data, list):
        return None
    return [((*prefix, index), row) for index, row in enumerate(data)]


def _from_list(document: Document, rows: Sequence[tuple[Loc, Any]], least_kv: bool) -> Wanted:
    problems: list[Problem] = []
    entries: list[Entry] = []
    places: dict[str, tuple[Document, Loc]] = {}
    for loc, row in rows:
        try:
            entry = Entry.model_validate(row)
        except ValidationError as error:
            problems += problems_of(error, Entry, document, loc)
            continue
        if entry.model_id in places:
            line = document.line(places[entry.model_id][1])
            message = f"{entry.model_id!r} is there already, on line {line}"
            problems.append(problem_at(document, (*loc, "model_id"), message, "put them together with replicas"))
            continue
        places[entry.model_id] = (document, loc)
        entries.append(entry)
    if not rows:
        problems.append(problem_at(document, (), "names no models", "add models with model_id and memory"))
    if problems:
        raise ConfigError(tuple(problems))
    return Wanted(tuple(entry.item(least_kv) for entry in entries), places)


def _from_service(path: Path, document: Document, least_kv: bool) -> Wanted:
    config = load_config(path)
    defaults = SIMULATED if config.simulated_gpus is not None else CUDA
    places = dict(_card_places(path, document))
    problems: list[Problem] = []
    items: list[Item] = []
    for card in config.models:
        source = None
        if card.declared.weights is None:
            try:
                source = check_source(card, resolve_source(card, path.absolute().parent, Home.find().weights))
            except SourceError as error:
                where, loc = places[card.model_id]
                message = f"is not declared, and {error}"
                problems.append(problem_at(where, (*loc, "declared", "weights"), message, "declare it: weights: 15GiB"))
                continue
        footprint = card.footprint(source, defaults)
        items.append(
            Item(
                model=ModelId(card.model_id),
                memory_bytes=footprint.gpu_min_bytes if least_kv else footprint.gpu_bytes,
                replicas=card.max_replicas,
                gpus=card.tensor_parallel,
                apart_from=frozenset(map(ModelId, card.anti_affinity)),
            )
        )
    if problems:
        raise ConfigError(tuple(problems))
    return Wanted(tuple(items), places)


def _card_places(path: Path, document: Document) -> Iterator[tuple[str, tuple[Document, Loc]]]:
    for index, card in enumerate(document.data.get("models") or ()):
        yield card["model_id"], (document, ("models", index))
    folder = document.data.get("models_dir")
    for file in card_files(path, folder) if folder else ():
        cards = read_yaml(file, f"{folder.rstrip('/')}/{file.name}")
        for index, card in enumerate(cards.data if isinstance(cards.data, list) else [cards.data]):
            yield card["model_id"], (cards, (index,) if isinstance(cards.data, list) else ())
