"""The errors of the catalog. Their text is fit to be shown: it names what is wrong and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


class CatalogError(Exception):
    """Base of everything the catalog refuses."""


class WrongValue(CatalogError, ValueError):
    """A value that cannot be taken. ``at`` is the path below the field that was being read, when it lies deeper."""

    def __init__(self, message: str, cure: str, at: str = "") -> None:
        super().__init__(f"{message}; {cure}" if cure else message)
        self.message = message
        self.cure = cure
        self.at = at


class UnitError(WrongValue):
    """A size, a duration or a list of GPUs that cannot be read."""


class SourceError(CatalogError):
    """A model's source cannot be served; the message is one clear sentence fit for callers."""


class SourceNotHere(SourceError):
    """It would have to be fetched first."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One wrong value. ``field``: its path in the file, ``models[2].declared.weights``; empty for the file itself."""

    file: str
    field: str
    message: str
    cure: str
    line: int | None = None

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        what = f"{self.field}: {self.message}" if self.field else self.message
        return f"{where}: {what}; {self.cure}" if self.cure else f"{where}: {what}"


class ConfigError(CatalogError):
    """A configuration that is not taken. ``problems`` lists everything that is wrong with it; there is at least one."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        if not problems:
            raise ValueError("a ConfigError needs at least one problem")
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems

    @property
    def field(self) -> str:
        return self.problems[0].field

    @property
    def message(self) -> str:
        return self.problems[0].message

    @property
    def cure(self) -> str:
        return self.problems[0].cure
