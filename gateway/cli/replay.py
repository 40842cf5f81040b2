"""``roundhouse replay``: decide again what a recording holds. The same must come out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.errors import AskedWrongly
from gateway.cli.options import Json
from gateway.cli.output import show_json, show_text
from gateway.cli.text_files import read_text_lines

if TYPE_CHECKING:
    from packers.sim.replay import Difference, Recorded


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `roundhouse record` wrote", show_default=False)],
    json: Json = False,
) -> None:
    """Decide each recorded step again. Exit status 1 at the first difference from what production decided."""
    from packers.sim.replay import replay as decide_again

    count = 0
    found: Difference | None = None
    for step in recorded_steps(file):
        differences = decide_again([step])
        if differences:
            found = differences[0]
            break
        count += 1
    if json:
        difference = _document(found, count)
        show_json({"path": str(file), "identical": found is None, "decisions": count, "difference": difference})
    elif found is None:
        show_text(f"{file}: {count} decisions, all identical")
    else:
        show_text(f"{file}: decision {count} (snapshot {found.snapshot_id}) comes out differently")
        show_text(f"  recorded: {found.recorded}")
        show_text(f"  now:      {found.decided}")
    if found is not None:
        raise typer.Exit(1)


def recorded_steps(file: Path) -> Iterator[Recorded]:
    """Raises AskedWrongly naming file, line and field."""
    from models.control.recording import RecordingError, Step, read_lines

    try:
        steps = 0
        for line in read_lines(read_text_lines(file), str(file)):
            if isinstance(line, Step):
                steps += 1
                yield line.snapshot, line.policies, line.plan
    except RecordingError as problem:
        raise AskedWrongly(str(problem), code="invalid_recording", cure="record it anew: roundhouse record") from None
    if not steps:
        raise AskedWrongly(
            f"{file}: holds no decision", code="invalid_recording", cure="record for longer: --duration 5m"
        )


def _document(found: Difference | None, number: int) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "decision": number,
        "snapshot_id": found.snapshot_id,
        "action": found.place,
        "recorded": None if found.recorded is None else str(found.recorded),
        "now": None if found.decided is None else str(found.decided),
    }
