"""What all that is written to Redis is made of."""

from __future__ import annotations

import msgspec


class Struct(msgspec.Struct, frozen=True, omit_defaults=False, kw_only=True):
    """Base of all records: frozen, keyword-only."""
