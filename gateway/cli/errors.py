"""What a command can fail with. Shown as two lines for people, or with ``--json`` as one object on stdout."""

from __future__ import annotations

from typing import Any


class CliError(Exception):
    """``message`` says what is wrong, ``cure`` what to do; ``code`` is for machines, ``details`` goes along with it."""

    exit_code = 1

    def __init__(self, message: str, *, code: str, cure: str = "", details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.cure = cure
        self.details = details or {}

    def document(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "code": self.code, "cure": self.cure or None, **self.details}}


class AskedWrongly(CliError):
    """The command line, a setting or the configuration is wrong: trying again changes nothing."""

    exit_code = 2


class NotRunning(CliError):
    def __init__(self, home: object) -> None:
        super().__init__(f"no service runs for {home}", code="not_running", cure="start it: roundhouse up")


class Unreachable(CliError):
    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"nothing answers at {url} ({reason})",
            code="unreachable",
            cure="start the service: roundhouse up; or name another one in ROUNDHOUSE_URL",
        )


class Refused(CliError):
    """The service answered with an error; message and code are its own."""
