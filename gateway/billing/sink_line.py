"""The connection to the operator's PostgreSQL, by one environment variable. SQLAlchemy is loaded when it is used."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.store.errors import StoreSettingError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

URL_ENV = "ROUNDHOUSE_POSTGRES_URL"
CONNECT_TIMEOUT_S = 5


@dataclass(slots=True)
class Line:
    """One connection at a time, made anew when it is lost."""

    engine: AsyncEngine
    _newest: list[Any] = field(default_factory=list)  # the driver's connection

    @classmethod
    def to(cls, url: str) -> Line:
        """Connects at first use. Raises StoreSettingError (no password in it)."""
        try:
            from sqlalchemy import event
            from sqlalchemy.ext.asyncio import create_async_engine
        except ImportError:
            raise StoreSettingError(
                f"{URL_ENV} is set, but SQLAlchemy is not installed: pip install 'roundhouse-serve[postgres]'"
            ) from None
        engine = create_async_engine(
            _parsed(url),
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,  # its errors end up in logs
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "roundhouse"},
        )
        line = cls(engine)
        event.listen(engine.sync_engine, "connect", line._connected)
        return line

    def hang_up(self) -> None:
        """Whoever waits for an answer on it is told at once that there will be none."""
        for connection in self._newest:
            if not connection.closed:
                with socket.socket(fileno=os.dup(connection.pgconn.socket)) as way:
                    way.shutdown(socket.SHUT_RDWR)

    def _connected(self, connection: Any, _: object) -> None:
        self._newest[:] = [connection.driver_connection]


def _parsed(url: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        parts = None
    if parts is None or parts.get_backend_name() not in ("postgresql", "postgres") or not parts.database:
        raise StoreSettingError(f"{URL_ENV} is not a PostgreSQL URL; write postgresql://user:password@host:5432/name")
    return parts.set(drivername="postgresql+psycopg")
