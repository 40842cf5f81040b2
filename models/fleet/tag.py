"""What an engine carries of the controller's knowledge, so that it can be re-adopted from what it says of itself."""

from __future__ import annotations

import msgspec

from packers.types import Footprint, GpuId


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """Travels as JSON in ``EngineOrder.tag``."""

    gpu: GpuId
    card_hash: str
    footprint: Footprint

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> Tag:
        """Raises msgspec.MsgspecError when the text is not a tag."""
        return msgspec.json.decode(text, type=cls)
