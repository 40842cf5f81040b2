"""``/metrics`` of all workers together, from whichever is scraped.

A sum over the living would fall when a worker dies, and Prometheus would take the fall for a restart and count the rest
twice. So whoever is scraped notes what it showed; what a worker that is gone had counted by then stays in the sum.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from gateway.exposition import Family, counted, merge, render
from gateway.siblings import Siblings

QUESTION = "metrics"
WORKERS = "roundhouse_gateway_workers"
# Of these the sum says nothing.
LEAST = ("roundhouse_routes_version", "roundhouse_store_up")


class Answer(msgspec.Struct, frozen=True):
    """``worker``: differs for each process that ever was."""

    worker: str
    text: bytes


class Seen(msgspec.Struct):
    """What was shown last: each worker's figures, and those of all that are gone, added up."""

    last: dict[int, Answer] = {}
    gone: bytes = b""


class WorkerMetrics:
    """``render`` makes this worker's own figures; ``worker`` is its name."""

    def __init__(self, siblings: Siblings, worker: str, render: Callable[[], bytes]) -> None:
        self._siblings = siblings
        self._worker = worker
        self._render = render
        siblings.answers[QUESTION] = lambda: msgspec.msgpack.encode(self._own())

    async def together(self) -> bytes:
        if self._siblings.alone:
            return self._render()
        answers = {
            index: msgspec.msgpack.decode(raw, type=Answer)
            for index, raw in (await self._siblings.ask(QUESTION)).items()
        }
        answers[self._siblings.index] = self._own()
        assert self._siblings.folder is not None
        # On a thread: the sum of many models takes a while, and streams go on meanwhile.
        return await asyncio.to_thread(_sum, self._siblings.folder / "metrics.seen", answers)

    def _own(self) -> Answer:
        return Answer(self._worker, self._render())


def add_up(seen: Seen, answers: Mapping[int, Answer]) -> tuple[bytes, Seen]:
    """What is to be shown, and what to remember of it.

    1. A worker in the place of another: what that one had counted goes to those that are gone.
    2. A worker that does not answer counts with what it last said, its gauges left out.
    """
    gone, last = seen.gone, dict(seen.last)
    for index, answer in answers.items():
        before = last.get(index)
        if before is not None and before.worker != answer.worker:  # 1
            gone = merge((gone, counted(before.text)))
        last[index] = answer
    silent = [counted(answer.text) for index, answer in last.items() if index not in answers]  # 2
    texts = [answers[index].text for index in sorted(answers)]
    total = merge((*texts, *silent, gone), LEAST)
    count = Family(
        WORKERS, "gauge", [f"# HELP {WORKERS} Workers of the gateway that answer.", f"# TYPE {WORKERS} gauge"]
    )
    count.samples[WORKERS] = float(len(answers))
    return total + render((count,)), Seen(last, gone)


def _sum(path: Path, answers: Mapping[int, Answer]) -> bytes:
    with _locked(path.with_suffix(".lock")):
        total, seen = add_up(_read(path), answers)
        partial = path.with_suffix(".part")
        partial.write_bytes(msgspec.msgpack.encode(seen))
        partial.replace(path)
    return total


def _read(path: Path) -> Seen:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Seen)
    except (OSError, msgspec.DecodeError):
        return Seen()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two workers may be scraped at the same time."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
