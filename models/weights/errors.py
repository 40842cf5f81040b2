"""What the store refuses or fails at. The text is one clause fit for callers: what is wrong; what to do."""

from __future__ import annotations


class WeightsError(Exception):
    """Base of the store's errors. ``message`` says what is wrong, ``cure`` what to do about it."""

    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(f"{message}; {cure}" if cure else message)
        self.message = message
        self.cure = cure

    def __reduce__(self) -> tuple[type[WeightsError], tuple[str, str]]:
        return type(self), (self.message, self.cure)


class Damaged(WeightsError):
    """A file does not hold what it should."""


class SourceRefused(WeightsError):
    """A source that cannot be taken as it is: trying again changes nothing."""


class NotHere(SourceRefused):
    """A source that has to be fetched first."""


class TransferFailed(WeightsError):
    """The other side broke off or did not answer. What has arrived is kept: the next attempt goes on from there."""


class NoRoom(WeightsError):
    """It does not fit the quota or the disk, and nothing may be removed for it."""


class Busy(WeightsError):
    """Somebody else is at it, or a running engine needs it."""
