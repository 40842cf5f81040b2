"""What a part is, before anything runs."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

# True once the part can do its work. Called again and again; must return soon and raise nothing.
Probe = Callable[[], Awaitable[bool]]


def nothing_to_prepare() -> None:
    """For parts that start from what they find."""


@dataclass(frozen=True, slots=True)
class PartSpec:
    """One process of an installation. Times are in seconds.

    ``needs``: parts that must be ready before it starts. ``follows``: those of them whose restart restarts it as well.
    ``outlives``: parts that must have ended before it is stopped, besides those that need it.
    ``takes_all``: whatever is left in its session when it ends goes with it.
    ``ready`` None: a one-shot, which is ready when it has ended with 0 and is not started again.
    """

    name: str
    what: str  # for people: "the engine launcher"
    command: tuple[str, ...]
    ready: Probe | None
    env: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    outlives: tuple[str, ...] = ()
    takes_all: bool = False
    prepare: Callable[[], None] = nothing_to_prepare  # before each start; may raise OSError
    start_timeout_s: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 5.0

    @property
    def once(self) -> bool:
        return self.ready is None


def check(parts: tuple[PartSpec, ...]) -> None:
    """Raises ValueError for two parts of one name, an unknown name, or parts that wait for each other."""
    names = [part.name for part in parts]
    if len(set(names)) != len(names):
        raise ValueError(f"two parts share a name: {', '.join(names)}")
    for part in parts:
        for other in (*part.needs, *part.follows, *part.outlives):
            if other not in names:
                raise ValueError(f"{part.name} refers to {other!r}, which is not a part")
    start_layers(parts)


def start_layers(parts: tuple[PartSpec, ...]) -> tuple[tuple[str, ...], ...]:
    """Names grouped so that every part comes after those it needs. Raises ValueError for a circle."""
    return _layers({part.name: set(part.needs) for part in parts})


def stop_layers(parts: tuple[PartSpec, ...]) -> tuple[tuple[str, ...], ...]:
    """Names grouped so that every part comes after those that need it and those that it outlives."""
    before = {part.name: set(part.outlives) for part in parts}
    for part in parts:
        for needed in part.needs:
            before[needed].add(part.name)
    return _layers(before)


def _layers(before: dict[str, set[str]]) -> tuple[tuple[str, ...], ...]:
    layers: list[tuple[str, ...]] = []
    placed: set[str] = set()
    while len(placed) < len(before):
        layer = tuple(name for name, others in before.items() if name not in placed and others <= placed)
        if not layer:
            raise ValueError(f"these parts wait for each other: {', '.join(sorted(before.keys() - placed))}")
        layers.append(layer)
        placed |= set(layer)
    return tuple(layers)
