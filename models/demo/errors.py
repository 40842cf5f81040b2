"""Why a demo model cannot be made."""

from __future__ import annotations


class DemoError(Exception):
    """One clear sentence with its cure."""


class UnknownDemoModel(DemoError):
    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no demo model called {name!r}; choose among {', '.join(known)}")


class EmbedderMissing(DemoError):
    """The package that carries the embedder's weights is absent or incomplete."""
