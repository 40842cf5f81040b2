"""The shape of ``GET /admin/v1/defrag``."""

from __future__ import annotations

import msgspec

from models.store.records import DefragRecord


class DefragStatus(msgspec.Struct, kw_only=True):
    """``run``: the defragmentation that is going on, or the last one there was; null where there was none."""

    object: str = "defrag"
    run: DefragRecord | None


DOCUMENTS = (DefragStatus,)
