"""Memory that the configuration guarantees to groups of models, on the GPUs that are there (``packers.guarantees``)."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from models.catalog.card import ModelCard
from models.catalog.service import ReservationSettings
from models.catalog.units import format_bytes
from packers.types import Gpu, GpuId, Guarantee


class Reserved:
    """Owned by the loop. GPUs come and go: a pattern holds for those that are there."""

    def __init__(self, settings: Iterable[ReservationSettings] = ()) -> None:
        self.settings = tuple(settings)
        self._gpus: Sequence[Gpu] | None = None
        self._guarantees: tuple[Guarantee, ...] = ()
        self._news: list[str] = []

    def groups(self, card: ModelCard) -> tuple[str, ...]:
        """The reservations that the model is in."""
        if not self.settings:
            return ()
        return tuple(one.name for one in self.settings if card.model_id in one.models or card.owned_by == one.tenant)

    def guarantees(self, gpus: Sequence[Gpu]) -> tuple[Guarantee, ...]:
        """``gpus``: the same object as long as they are the same."""
        if self._gpus is not gpus:
            self._gpus = gpus
            self._guarantees = tuple(
                Guarantee(one.name, gpu.id, one.memory)
                for one in self.settings
                for gpu in gpus
                if any(fnmatch.fnmatchcase(gpu.id, pattern) for pattern in one.gpus)
            )
            self._news = list(self._problems(gpus))
        return self._guarantees

    def on(self, gpu: GpuId) -> dict[str, int]:
        """Reservation -> the bytes that it asks for there."""
        found: dict[str, int] = {}
        for one in self._guarantees:
            if one.gpu == gpu:
                found[one.group] = found.get(one.group, 0) + one.gpu_bytes
        return found

    def news(self) -> list[str]:
        """What cannot be guaranteed as it is written; each is told once."""
        found, self._news = self._news, []
        return found

    def _problems(self, gpus: Sequence[Gpu]) -> Iterable[str]:
        left = {gpu.id: gpu.memory_bytes for gpu in gpus}
        for one in self.settings:
            mine = [each for each in self._guarantees if each.group == one.name]
            if not mine:
                yield f"reservation {one.name}: no GPU is named {' or '.join(one.gpus)}, so nothing is kept for it"
            short = [each.gpu for each in mine if left[each.gpu] < each.gpu_bytes]
            for each in mine:
                left[each.gpu] = max(0, left[each.gpu] - each.gpu_bytes)
            if short:
                what = f"{format_bytes(one.memory)} are more than is left of {_some(short)}"
                yield f"reservation {one.name}: {what}: it gets the rest"


def _some(gpus: Sequence[GpuId]) -> str:
    return ", ".join(gpus[:3]) + (f" and {len(gpus) - 3} more" if len(gpus) > 3 else "")
