"""What a zygote is to warm, and what is left of that when some of it has turned out to be broken."""

from __future__ import annotations

from typing import Literal

import msgspec

from models.runtimes.protocol import FORCED
from models.runtimes.registry import FALLBACKS

VllmPath = Literal["auto", "fast", "plain"]


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """``names``: as ``find_runtime`` takes them. Of the others, each maps such a name to why it is in there.

    ``plain``: to be run by its fallback. ``given_up``: not to be warmed at all. ``only_fast``: these have a fallback
    that is not to be used.
    """

    names: tuple[str, ...]
    plain: dict[str, str] = {}
    given_up: dict[str, str] = {}
    only_fast: tuple[str, ...] = ()

    def falls_back(self, name: str) -> bool:
        """Whether there is another way to run it when this one breaks."""
        return name in FALLBACKS and name not in self.plain and name not in self.only_fast

    def without(self, name: str, why: str) -> Recipe:
        """One step down for ``name``: its fallback, where there is one, else nothing."""
        if self.falls_back(name):
            return msgspec.structs.replace(self, plain={**self.plain, name: why})
        return msgspec.structs.replace(self, given_up={**self.given_up, name: why})


def recipe_for(names: tuple[str, ...], vllm_path: VllmPath = "auto") -> Recipe:
    """``vllm_path``: auto takes the fast one unless its probe fails."""
    match vllm_path:
        case "plain":
            return Recipe(names=names, plain={"vllm": FORCED} if "vllm" in names else {})
        case "fast":
            return Recipe(names=names, only_fast=("vllm",))
        case "auto":
            return Recipe(names=names)
