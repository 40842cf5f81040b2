"""What can be wrong with the store, in words for operators."""

from __future__ import annotations


class StoreError(Exception):
    """Base of the store's errors."""


class NoRedisServer(StoreError):
    """No usable Redis binary on this machine; the message names the cure."""


class StoreInUse(StoreError):
    """Another server runs on the same data folder."""


class StoreStartFailed(StoreError):
    """The embedded server ended, or did not answer, while it was being started."""


class StoreSettingError(StoreError):
    """An environment variable that names the store cannot be used."""


class StoreDataError(StoreError):
    """What lies under a key is not the record that belongs there."""


class TenancyRefused(StoreError):
    """What was asked for of tenants, keys, prices or house rules cannot be. ``field``: which part of it is wrong.

    The message names the cure.
    """

    def __init__(self, message: str, field: str = "", code: str = "invalid_request") -> None:
        super().__init__(message)
        self.field = field
        self.code = code


class NotThere(TenancyRefused):
    """Nothing has this name."""


class ChangedMeanwhile(StoreError):
    """Somebody else changed the same; nothing of this change was written."""
