"""``roundhouse plan``: what the running service would do now, and why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from gateway.cli.client import find_service
from gateway.cli.options import HomeFolder, Json
from gateway.cli.output import bytes_text, say, show_json, show_table, show_text


def plan(
    explain: Annotated[
        bool, typer.Option("--explain", help="Say for each model what a request to it would meet, and why.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="Only this model (id or alias)", show_default=False)
    ] = None,
    wake: Annotated[
        str | None, typer.Option("--wake", help="What if this model were called now?", show_default=False)
    ] = None,
    drain: Annotated[
        str | None, typer.Option("--drain", help="What if this GPU were to be emptied?", show_default=False)
    ] = None,
    home: HomeFolder = None,
    json: Json = False,
) -> None:
    """What the packer does now, and what it would do. Changes nothing."""
    service = find_service(home)
    found = service.get("plan", explain="true" if explain else None, model=model, wake=wake, drain=drain)
    if json:
        show_json(found)
        return
    policies = ", ".join(
        f"{name} {value}" for name, value in found["policies"].items() if value and isinstance(value, str)
    )
    say(f"snapshot {found['snapshot_id']}; policies: {policies}")
    if found["what_if"]:
        show_text(f"If {found['what_if']}:")
    show_actions(found["actions"])
    show_text("")
    _show_models(found["models"])
    for each in found["models"]:
        if each["if_called"] is not None:
            _show_answer(each["model_id"], each["if_called"])


def show_actions(actions: Iterable[dict[str, Any]]) -> None:
    shown = False
    for action in actions:
        where = f" on {action['gpu']}" if action["gpu"] else ""
        whom = f" for {action['evicted_for']}" if action["evicted_for"] else ""
        show_text(f"{action['action']:<7} {action['model_id']}{where}{whom}: {action['reason']}")
        _show_candidates(action["candidates"])
        shown = True
    if not shown:
        show_text("Nothing is to be done.")


def _show_models(models: Iterable[dict[str, Any]]) -> None:
    rows = (
        (
            model["model_id"],
            ", ".join(f"{each['state']} on {each['gpu']}" for each in model["replicas"]),
            model["in_flight"],
            model["held"],
            f"{model['wake_s']:.2f} s",
            f"{model['start_s']:.2f} s",
            model["if_called"]["outcome"] if model["if_called"] else None,
        )
        for model in models
    )
    columns = ("MODEL", "REPLICAS", "IN FLIGHT", "HELD", "WAKES IN", "STARTS IN", "IF CALLED")
    show_table(columns, rows, "The catalog has no models.")


def _show_answer(model: str, answer: dict[str, Any]) -> None:
    show_text(f"\n{model}: {answer['summary']}")
    for sentence in answer["counterfactuals"]:
        show_text(f"  {sentence}")
    _show_candidates(answer["candidates"])


def _show_candidates(candidates: Iterable[dict[str, Any]]) -> None:
    for one in candidates:
        verdict = f"rejected: {one['rejected']}" if one["rejected"] else f"score {one['score']:.4g}"
        show_text(f"  {one['gpu']}  {bytes_text(one['free_bytes'])} free  {verdict}")
