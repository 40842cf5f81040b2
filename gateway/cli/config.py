"""``roundhouse config`` and ``roundhouse reload``: its schema, a check of a file, reading it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.client import find_service, home_of
from gateway.cli.errors import AskedWrongly
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import show_json, show_text

if TYPE_CHECKING:
    from models.catalog.card import ModelCard
    from models.catalog.errors import ConfigError
    from models.catalog.service import ServiceConfig
    from models.home import Home

app = typer.Typer(help="The configuration: its JSON Schema, a check of a file.", rich_markup_mode=None)

FileArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]", help="Default: ./roundhouse.yaml, else the demo's in the state folder", show_default=False
    ),
]


@app.command()
def schema(json: Json = False) -> None:
    """JSON Schema of roundhouse.yaml, for editors; always JSON."""
    from models.catalog.config import json_schema

    show_json(json_schema())


@app.command()
def check(file: FileArgument = None, home: HomeFolder = None, json: Json = False) -> None:
    """Whether a configuration would be taken, and every model it names could be served. Changes nothing."""
    found = home_of(home)
    path = file or (Path("roundhouse.yaml") if Path("roundhouse.yaml").is_file() else found.config)
    config = read_config(path)
    wrong = [(card.model_id, problem) for card in config.models if (problem := _source_problem(card, path, found))]
    if wrong:
        raise AskedWrongly(
            f"{path}: {len(wrong)} of {len(config.models)} models cannot be served\n"
            + "\n".join(f"  {model}: {problem}" for model, problem in wrong),
            code="model_source",
            cure="correct model_source, or fetch what is missing",
            details={"problems": [{"model_id": model, "message": problem} for model, problem in wrong]},
        )
    if json:
        show_json({"ok": True, "path": str(path), "models": [card.model_id for card in config.models]})
    else:
        show_text(f"{path}: good, {len(config.models)} models")


def reload(home: HomeFolder = None, json: Json = False) -> None:
    """Read the configuration again. A wrong one changes nothing."""
    reply = find_service(home).post("reload")
    if json:
        show_json(reply)
    else:
        show_text(reply["message"])


def read_config(path: Path) -> ServiceConfig:
    """Raises AskedWrongly naming every wrong field."""
    from models.catalog.config import ConfigError, load_config

    try:
        return load_config(path)
    except ConfigError as error:
        raise config_error(path, error) from None


def config_error(path: Path, error: ConfigError) -> AskedWrongly:
    problems: list[dict[str, Any]] = [
        {"file": each.file, "line": each.line, "field": each.field, "message": each.message, "cure": each.cure}
        for each in error.problems
    ]
    lines = "\n".join(f"  {problem}" for problem in error.problems)
    return AskedWrongly(
        f"the configuration {path} cannot be used\n{lines}",
        code="invalid_configuration",
        cure="`roundhouse config schema` describes every field",
        details={"problems": problems},
    )


def _source_problem(card: ModelCard, path: Path, home: Home) -> str | None:
    """What keeps a model from being served. Nothing is downloaded: of a hub's model only a copy here is looked at."""
    from models.catalog.source import SourceError, check_source, resolve_source

    try:
        check_source(card, resolve_source(card, path.absolute().parent, home.weights))
    except SourceError as error:
        return str(error)
    return None
