"""What the simulated users say. The source of randomness is passed in, so a seed repeats a run's requests."""

from __future__ import annotations

import random

_OPENINGS = ("Tell me about", "Explain in plain words", "Write three lines on", "Give me a story about", "Think of")
_SUBJECTS = (
    "steam engines and turntables",
    "a kitchen at six in the morning",
    "how computers share memory",
    "the night train to the coast",
    "bread that did not rise",
    "queues and those who wait in them",
    "a signalman's logbook",
)
_ENDINGS = ("please.", "for a child.", "for an expert.", "without any numbers.", "and say why it matters.")


def prompt(rng: random.Random) -> str:
    """A request that differs from the others early on: an engine's prefix cache must not answer for it."""
    visitor = rng.randrange(1_000_000)
    return f"I am visitor {visitor}. {rng.choice(_OPENINGS)} {rng.choice(_SUBJECTS)}, {rng.choice(_ENDINGS)}"
