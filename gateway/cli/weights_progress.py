"""How far an import is: a bar for people, lines for logs, JSON lines for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gateway.cli.output import bytes_text, say, show_json_line
from models.weights.records import Progress

SAY_EVERY_S = 5.0
Tell = Callable[[Progress], None]


@contextmanager
def watching(json: bool) -> Iterator[Tell]:
    if json:
        yield lambda progress: show_json_line(_document(progress))
    elif sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task("looking", total=None)

            def show(progress: Progress) -> None:
                total = progress.bytes_total or None
                bar.update(task, description=progress.phase, completed=progress.bytes_done, total=total)

            yield show
    else:
        yield _Lines()


@contextmanager
def counting(what: str, total_bytes: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """For bytes that are read here; silent where nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield lambda count: None
        return
    with _bar() as bar:
        task = bar.add_task(what, total=total_bytes)
        yield lambda count: bar.advance(task, count)


class _Lines:
    """One line for each phase, and every few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said = ("", float("-inf"))

    def __call__(self, progress: Progress) -> None:
        phase, said_s = self._said
        if progress.phase == phase and self._clock() - said_s < SAY_EVERY_S:
            return
        self._said = (progress.phase, self._clock())
        if progress.phase in ("downloading", "waiting", "checking") and progress.bytes_total:
            rate = f", {bytes_text(int(progress.bytes_per_s))}/s" if progress.bytes_per_s else ""
            done = f"{bytes_text(progress.bytes_done)} of {bytes_text(progress.bytes_total)}"
            say(f"{progress.phase}: {done} ({progress.fraction:.0%}){rate}")


def _document(progress: Progress) -> dict[str, Any]:
    return {
        "object": "weights.progress",
        "source": progress.source,
        "phase": progress.phase,
        "bytes_done": progress.bytes_done,
        "bytes_total": progress.bytes_total,
        "resumed_bytes": progress.resumed_bytes,
        "files_done": progress.files_done,
        "files_total": progress.files_total,
        "bytes_per_s": round(progress.bytes_per_s),
    }


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))
