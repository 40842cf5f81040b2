"""Orders to the service: the options that they share, and what is shown of the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from gateway.cli.output import show_json, show_text

UntilEmpty = Annotated[bool, typer.Option("--wait", help="Return when nothing is on it any more.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, max=600, help="How long to wait, in seconds")]


def show_reply(
    reply: Mapping[str, Any], json: bool, show_plan: Callable[[Mapping[str, Any]], None] | None = None
) -> None:
    """What was answered, and whom it concerns. ``show_plan``: of a dry run; what it would lead to is in the detail."""
    if json:
        show_json(reply)
        return
    show_text(reply["message"])
    if show_plan is not None:
        show_plan(reply["detail"])
    for whom in reply["actions"]:
        show_text(f"  {whom}")
