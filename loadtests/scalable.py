"""Which model a spike is for: one alone, and one that may have more replicas. Beside others it would hide what scaling
does."""

from __future__ import annotations

import msgspec

from loadtests.load.settings import Settings
from loadtests.target import Target
from loadtests.wire import CallFailed, get_json

OF_ONE_MODEL = frozenset({"spike"})  # suites that ask one model where none is named


def most_scalable(target: Target, settings: Settings) -> Settings:
    """With the one of its chat models that may have the most replicas; the first of several. Unchanged where the target
    has no admin API to ask."""
    if len(settings.models) < 2 or not target.admin_key:
        return settings
    try:
        told = get_json(target, "/admin/v1/models", admin=True).get("data") or []
    except CallFailed:
        return settings
    most = {str(one.get("model_id")): int(one.get("max_replicas") or 0) for one in told}
    chosen = max(settings.models, key=lambda name: most.get(name, 0))
    contexts = {name: length for name, length in settings.contexts.items() if name == chosen}
    return msgspec.structs.replace(settings, models=(chosen,), embedders=(), contexts=contexts)
