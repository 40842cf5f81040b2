"""Why nothing could be compared."""

from __future__ import annotations

from collections.abc import Iterable


class CannotCompare(Exception):
    """The message has a line for each cause, with its cure."""

    def __init__(self, causes: Iterable[str]) -> None:
        super().__init__("\n".join(causes))
