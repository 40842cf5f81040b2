"""Calling code that is not ours: whatever it does becomes an ordinary exception or a sentence."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

LONGEST_SENTENCE = 200

Result = TypeVar("Result")


class ModelDefect(Exception):
    """A model's class did what it may not do; the message is fit for callers."""


def contained(function: Callable[..., Result], *arguments: Any) -> Result:
    """Its result. Raises what it raises, but ModelDefect for what would end the process or a generator."""
    try:
        return function(*arguments)
    except (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration) as problem:
        # asyncio lets these through to the event loop, or cannot carry them in a future.
        raise ModelDefect(f"the model's class raised {type(problem).__name__}") from problem


def in_one_line(problem: BaseException) -> str:
    """The first line of what it says, not too long; its type when it says nothing."""
    lines = str(problem).strip().splitlines()
    said = lines[0].strip() if lines else type(problem).__name__
    return said if len(said) <= LONGEST_SENTENCE else f"{said[: LONGEST_SENTENCE - 3]}..."


def stack_of(thread_id: int = 0) -> str:
    """Where a thread is just now, for the log. Empty when there is no such thread."""
    frame = sys._current_frames().get(thread_id)
    return "".join(traceback.format_stack(frame)) if frame is not None else ""


def pieces_of(iterator: Iterator[Any]) -> tuple[bool, Any]:
    """(True, the next piece) or (False, None) at the end: StopIteration cannot cross a thread's future."""
    for piece in iterator:
        return True, piece
    return False, None


def close_quietly(iterator: Any) -> None:
    """Close a generator. Raises what its own clean-up raises."""
    close = getattr(iterator, "close", None)
    if close is not None:
        with contextlib.suppress(GeneratorExit):
            close()
