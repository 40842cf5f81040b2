"""Loads the service's configuration from YAML. Whatever is wrong is reported all at once, by field, with its cure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from models.catalog.card import ModelCard
from models.catalog.errors import ConfigError, Problem
from models.catalog.problems import did_you_mean, field_path, problem_at, problems_of
from models.catalog.service import GatewaySettings, GpuChoice, PolicyNames, ServiceConfig
from models.catalog.yaml_file import Document, Loc, read_yaml

__all__ = [
    "ConfigError",
    "GatewaySettings",
    "GpuChoice",
    "PolicyNames",
    "ServiceConfig",
    "card_files",
    "json_schema",
    "load_config",
]
M = TypeVar("M", bound=BaseModel)
CARD_SUFFIXES = (".yaml", ".yml")
SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def load_config(path: Path) -> ServiceConfig:
    """The configuration at ``path`` with the cards of its ``models_dir``. Raises ConfigError listing every problem."""
    document = read_yaml(path, path.name)
    if not isinstance(document.data, dict):
        raise ConfigError((problem_at(document, (), "does not hold keys and values", "begin with models:"),))
    problems: list[Problem] = []
    config = _validated(ServiceConfig, document, (), problems)
    documents = [document, *_card_documents(path, document, problems)]
    raw = [card for each in documents for card in _raw_cards(each, is_main=each is document)]
    cards = [_validated(ModelCard, card.document, card.loc, problems) for card in raw if card.document is not document]
    problems += _shared_names(raw)
    problems += _unknown_company(raw)
    problems += _idle_reservations(document, raw)
    if not document.data.keys() & {"models", "models_dir"}:
        problems.append(problem_at(document, (), "names no models", "add models: or models_dir:"))
    if problems or config is None:
        raise ConfigError(tuple(problems))
    return config.model_copy(update={"models": (*config.models, *(card for card in cards if card is not None))})


def card_files(path: Path, models_dir: str) -> list[Path]:
    """The card files of ``models_dir``, which is relative to the configuration file at ``path``. Raises OSError."""
    folder = path.parent / Path(models_dir).expanduser()
    files = (file for file in folder.iterdir() if file.suffix in CARD_SUFFIXES)
    return sorted(file for file in files if not file.name.startswith("."))


def json_schema() -> dict[str, Any]:
    """JSON Schema of the configuration file, for editors and ``roundhouse config schema``."""
    return {"$schema": SCHEMA_DIALECT, **ServiceConfig.model_json_schema(mode="validation"), "title": "Roundhouse"}


@dataclass(frozen=True, slots=True)
class _RawCard:
    document: Document
    loc: Loc
    data: Any


def _card_documents(path: Path, main: Document, problems: list[Problem]) -> list[Document]:
    models_dir = main.data.get("models_dir")
    if not isinstance(models_dir, str) or not models_dir:
        return []
    try:
        files = card_files(path, models_dir)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"the folder {models_dir!r} cannot be read ({reason})"
        problems.append(problem_at(main, ("models_dir",), message, "create it, or remove models_dir"))
        return []
    documents = []
    for file in files:
        try:
            documents.append(read_yaml(file, f"{models_dir.rstrip('/')}/{file.name}"))
        except ConfigError as error:
            problems += error.problems
    return documents


def _raw_cards(document: Document, *, is_main: bool) -> Iterator[_RawCard]:
    data, prefix = (document.data.get("models"), ("models",)) if is_main else (document.data, ())
    if isinstance(data, list):
        yield from (_RawCard(document, (*prefix, index), item) for index, item in enumerate(data))
    elif not is_main:
        yield _RawCard(document, (), data)


def _validated(model: type[M], document: Document, loc: Loc, problems: list[Problem]) -> M | None:
    data = document.data
    for part in loc:
        data = data[part]
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems += problems_of(error, model, document, loc)
        return None


def _shared_names(cards: list[_RawCard]) -> Iterator[Problem]:
    """Ids, aliases and adapters share one name space: a request names only one model."""
    taken: dict[str, _RawCard] = {}
    for card in cards:
        for loc, name in _names(card):
            owner = taken.setdefault(name, card)
            if owner is not card:
                where = f"{owner.document.name} {field_path(owner.loc)}".strip()
                yield problem_at(card.document, loc, f"{name!r} is taken by {where}", "choose another name")


def _unknown_company(cards: list[_RawCard]) -> Iterator[Problem]:
    """A misspelt neighbour would quietly never be kept close, or away."""
    ids = (card.data.get("model_id") for card in cards if isinstance(card.data, dict))
    known = {each for each in ids if isinstance(each, str)}
    for card in cards:
        for field in ("affinity", "anti_affinity"):
            named = card.data.get(field) if isinstance(card.data, dict) else None
            for index, name in enumerate(named if isinstance(named, list) else ()):
                if isinstance(name, str) and name not in known:
                    where = (*card.loc, field, index)
                    cure = did_you_mean(name, known)
                    yield problem_at(card.document, where, f"{name!r} is no model of this configuration", cure)


def _idle_reservations(main: Document, cards: list[_RawCard]) -> Iterator[Problem]:
    """One for nobody would quietly keep memory from everybody."""
    given = main.data.get("reservations")
    owners, ids = _texts(cards, "owned_by"), _texts(cards, "model_id")
    taken: set[str] = set()
    for index, one in enumerate(given if isinstance(given, list) else ()):
        if not isinstance(one, dict):
            continue
        where = ("reservations", index)
        if isinstance(name := one.get("name"), str):
            if name in taken:
                yield problem_at(main, (*where, "name"), f"{name!r} is another one's name", "choose another")
            taken.add(name)
        if isinstance(tenant := one.get("tenant"), str) and tenant not in owners:
            cure = did_you_mean(tenant, owners) if owners else "give its models owned_by in their cards"
            yield problem_at(main, (*where, "tenant"), f"no model is owned_by {tenant[:60]!r}", cure)
        named = one.get("models")
        for place, model in enumerate(named if isinstance(named, list) else ()):
            if isinstance(model, str) and model not in ids:
                what = f"{model[:60]!r} is no model of this configuration"
                yield problem_at(main, (*where, "models", place), what, did_you_mean(model, ids))


def _texts(cards: list[_RawCard], key: str) -> set[str]:
    found = (card.data.get(key) for card in cards if isinstance(card.data, dict))
    return {each for each in found if isinstance(each, str)}


def _names(card: _RawCard) -> Iterator[tuple[Loc, str]]:
    if not isinstance(card.data, dict):
        return
    if isinstance(model_id := card.data.get("model_id"), str):
        yield (*card.loc, "model_id"), model_id
    aliases = card.data.get("aliases")
    for index, alias in enumerate(aliases if isinstance(aliases, list) else ()):
        if isinstance(alias, str):
            yield (*card.loc, "aliases", index), alias
    adapters = card.data.get("adapters")
    for name in adapters if isinstance(adapters, dict) else ():
        if isinstance(name, str):
            yield (*card.loc, "adapters", name), name
