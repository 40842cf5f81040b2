"""Why a part of the benchmark has no figure."""

from __future__ import annotations


class CannotMeasure(Exception):
    """The message says what is missing and what to do about it."""


class NoCompiler(CannotMeasure):
    """There is no C compiler, or it refused the benchmark's programs."""


class DidNotStart(CannotMeasure):
    """A gateway ended, or gave no answer; the message has the end of its output."""
