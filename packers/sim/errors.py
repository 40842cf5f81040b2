"""What keeps a simulation from running."""

from __future__ import annotations


class SimError(ValueError):
    """A world, trace or policy that cannot be simulated. The message names the field."""
