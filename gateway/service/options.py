"""How the gateway is to be run, from the configuration and the command line to the words of its command."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.flags import words_of
from gateway.greed import Caps
from gateway.settings import Limits
from gateway.tls import TlsFiles

if TYPE_CHECKING:
    from models.catalog.gateway import GatewaySettings

MOST_AUTO_WORKERS = 8
USUAL_ACCESS_LOG = "all"
DRAIN_TIMEOUT_S = 5.0  # whoever presses Ctrl-C is there and waits


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """``port`` is a real one, never 0."""

    host: str = "127.0.0.1"
    port: int = 8000
    admin: tuple[str, int] | None = None
    workers: int = 1
    tls: TlsFiles | None = None
    access_log: str = USUAL_ACCESS_LOG
    limits: Limits = field(default_factory=lambda: Limits(drain_timeout_s=DRAIN_TIMEOUT_S))
    caps: Caps = field(default_factory=Caps)

    @property
    def url(self) -> str:
        return self._url(self.host, self.port)

    @property
    def admin_url(self) -> str | None:
        """Where it is not the same."""
        return None if self.admin is None else self._url(*self.admin)

    def _url(self, host: str, port: int) -> str:
        at = reachable(host)
        shown = f"[{at}]" if ":" in at else at
        return f"{'http' if self.tls is None else 'https'}://{shown}:{port}"

    def words(self) -> list[str]:
        """For ``python -m gateway.server``."""
        words = ["--host", self.host, "--port", str(self.port)]
        if self.admin is not None:
            words += ["--admin", ":".join(map(str, self.admin))]
        if self.workers > 1:
            words += ["--workers", str(self.workers)]
        if self.tls is not None:
            words += ["--tls-cert", str(self.tls.cert), "--tls-key", str(self.tls.key)]
        if self.access_log != USUAL_ACCESS_LOG:
            words += ["--access-log", self.access_log]
        return [*words, *words_of(self.limits, self.caps)]


def reachable(host: str) -> str:
    """An address at which this machine itself reaches what listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)


def options(settings: GatewaySettings, *, folder: Path, host: str, port: int, workers: int) -> GatewayOptions:
    """As configured; ``folder``: what its files are relative to."""
    tls = settings.tls
    return GatewayOptions(
        host=host,
        port=port,
        admin=None if settings.admin is None else (settings.admin.host, settings.admin.port),
        workers=workers,
        tls=None if tls is None else TlsFiles(_file(folder, tls.cert), _file(folder, tls.key)),
        access_log=settings.access_log,
        limits=limits(settings),
        caps=Caps(**settings.caps.given()),
    )


def limits(settings: GatewaySettings) -> Limits:
    return Limits(
        max_body_bytes=settings.max_body,
        upload_bytes=settings.max_upload,
        head_bytes=settings.max_head,
        request_timeout_s=settings.request_timeout,
        idle_timeout_s=settings.idle_timeout,
        linger_s=settings.linger,
        drain_timeout_s=settings.drain_timeout,
        max_connections=settings.max_connections,
        hold_timeout_s=settings.hold_timeout,
        hold_limit=settings.hold_limit,
        hold_comments_s=settings.hold_comments,
        media_hosts=settings.media_hosts,
    )


def auto_workers(simulated: bool) -> int:
    """One where engines compute on the CPU as well: they need it more. Else one for each core that we may use."""
    return 1 if simulated else min(MOST_AUTO_WORKERS, len(os.sched_getaffinity(0)))


def _file(folder: Path, name: str) -> Path:
    return (folder / Path(name).expanduser()).absolute()
