"""What a request on its way keeps for its usage event."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.accounts import Account
    from gateway.exchange import Exchange
    from gateway.metering.frames import Stay
    from gateway.metering.table import Slot


class Metered:
    """``from_s``: since when it is on ``exchange.replica``, of the monotonic clock; 0: it is on none. ``from_unix_s``:
    the same as Unix time, once it is written down somewhere. ``runs``: those that are over.

    ``slot``: in the table of open requests. ``estimated``: its tokens were counted here, not by an engine.
    """

    exchange: Exchange
    from_s = 0.0
    from_unix_s = 0.0
    runs: tuple[Stay, ...] = ()
    slot: Slot | None = None
    estimated = False

    @property
    def account(self) -> Account | None:
        """That it goes on, once it is known."""
        return None
