"""What became of a model's weights: where they lie, and the layout that they were stored in or came from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from torch import nn

from models.runtimes.vllm.canary import Answer
from models.runtimes.vllm.layout import (
    Layout,
    LayoutWriter,
    Manifest,
    MappedFile,
    find_layout,
    layout_key,
    seal,
)
from models.runtimes.vllm.linear import SharedLinear

log = logging.getLogger("roundhouse.engine")


@dataclass
class LoadedWeights:
    """Of one model. ``why``: it is not mapped.

    On CUDA ``layout`` and ``file`` are what the parameters were copied from, by the same names: whoever takes the GPU's
    memory away for a while can bring them back from there.
    """

    how: Literal["mapped", "copied"] = "copied"
    why: str = ""
    weights_bytes: int = 0  # what the model's tensors take on a device
    facts: Mapping[str, str] = field(default_factory=dict)
    settings: str = ""  # that the canary is asked under
    layout: Layout | None = None
    file: MappedFile | None = None
    writer: LayoutWriter | None = None  # of a layout that nobody else sees yet
    shared: dict[str, SharedLinear] = field(default_factory=dict)  # by the layer's name
    layers: dict[str, nn.Module] = field(default_factory=dict)  # that multiply by a matrix

    @property
    def expected(self) -> Answer | None:
        """What the canary must say; None before the first verified start."""
        return None if self.layout is None else self.layout.manifest.answers.get(self.settings)

    def publish(self, answer: Answer | None) -> Manifest | None:
        """Let others map what was stored here; None when nothing was, or the disk fails."""
        writer, layout = self.writer, self.layout
        if writer is None or layout is None:
            return None
        if answer is None:
            self.why = "its canary cannot be asked, and nobody could verify it"
            self.abandon()
            return None
        key = layout_key(self.facts)
        before = find_layout(writer.folder, key)  # the same content, asked under other settings
        manifest = msgspec.structs.replace(
            layout.manifest,
            facts=dict(self.facts),
            weights_bytes=self.weights_bytes,
            answers={**(before.manifest.answers if before else {}), self.settings: answer},
        )
        try:
            path = writer.publish(manifest)
        except OSError as problem:
            log.warning("the layout cannot be stored: %s", problem)
            self.abandon()
            return None
        self.writer = None
        self.layout = Layout(path, manifest, layout.begin, layout.entries)
        return manifest

    def seal(self) -> None:
        """Have the published layout on the disk, with its hash. Blocks for a second or two a gigabyte."""
        if self.layout is None or self.layout.manifest.sha256 is not None:
            return
        try:
            sealed = seal(self.layout.path, self.layout.manifest)
        except OSError as problem:  # evicted by now, or the disk fails
            log.info("the layout has no hash: %s", problem)
        else:
            self.layout = Layout(self.layout.path, sealed, self.layout.begin, self.layout.entries)

    def abandon(self) -> None:
        """Remove what was stored; the engine keeps what it has mapped of it."""
        if self.writer is not None:
            self.writer.abandon()
            self.writer = None
