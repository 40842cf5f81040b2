"""What a step leaves to be written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Slate:
    """``dirty``: something has changed; ``renumber``: gateways have to tell the next table from all before it, even if
    nothing in it has changed."""

    dirty: bool = True
    renumber: bool = False
