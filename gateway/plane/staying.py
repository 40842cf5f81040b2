"""What stays open for days, for as long as its caller may call: keys are revoked and tenants blocked meanwhile."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from gateway.auth import INFERENCE
from gateway.errors import GatewayError, StoreUnavailable

if TYPE_CHECKING:
    from gateway.plane.plane import Plane
    from models.store.records import KeyRecord


class Staying:
    _plane: Plane
    _key_hash = ""

    def _run(self, step: Coroutine[Any, Any, None]) -> None:
        """Beside all else, and nothing else meanwhile."""
        raise NotImplementedError

    def _may_not(self, error: GatewayError) -> None:
        """It is to end."""
        raise NotImplementedError

    def _look_at_caller(self) -> None:
        """To be asked about once a second, while nothing runs. While nobody can say, it goes on."""
        try:
            record = self._plane.authenticator.recall(self._key_hash, INFERENCE)
            if record is None:
                self._run(self._ask_about_caller())
            else:
                self._check_caller(record)
        except StoreUnavailable:
            return
        except GatewayError as error:
            self._may_not(error)

    async def _ask_about_caller(self) -> None:
        try:
            self._check_caller(await self._plane.authenticator.authenticate_hash(self._key_hash, INFERENCE))
        except StoreUnavailable:
            return
        except GatewayError as error:
            self._may_not(error)

    def _check_caller(self, record: KeyRecord) -> None:
        """Raises GatewayError."""
        self._plane.guard.check_key_blocks(record.key_id)
        self._plane.accounts.of(record)
