"""Which administrator the work at hand is done for: set where the key is checked, read where an act is written down."""

from __future__ import annotations

from contextvars import ContextVar

from models.store.audit import Who

NOBODY = Who("roundhouse")
ACTOR: ContextVar[Who] = ContextVar("actor", default=NOBODY)
