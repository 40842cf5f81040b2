"""TLS with a certificate and a key from files. New files are taken up as they are; connections that are open stay."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

LOOK_EVERY_S = 1.0


class TlsError(Exception):
    """The certificate or its key cannot be used; the message names the file and the cure."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM. ``cert``: the server's certificate, followed by those between it and a root. ``key``: without a password."""

    cert: Path
    key: Path

    def seen(self) -> tuple[object, ...]:
        """Differs once one of them was replaced or written again."""
        return tuple(_seen(path) for path in (self.cert, self.key))


class Tls:
    """``context`` stays the same for as long as a server listens; each new connection gets the files last taken up."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises TlsError."""
        self._files = files
        self._seen = files.seen()
        self._current = load(files)
        # Its own certificate is never shown: the callback puts another context in its place, name or no name.
        self.context = load(files)
        self.context.sni_callback = self._choose

    def look(self) -> bool:
        """Take the files up if they have changed; whether they had. Raises TlsError, and then the old ones stay."""
        seen = self._files.seen()
        if seen == self._seen:
            return False
        self._seen = seen  # wrong files are told of once, not at every look
        self._current = load(self._files)
        return True

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current


def load(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 and above, HTTP/1.1. Raises TlsError."""
    for what, path in (("certificate", files.cert), ("key", files.key)):
        try:
            path.open("rb").close()
        except OSError as problem:
            raise TlsError(
                f"the TLS {what} {path} cannot be read: {problem.strerror}; correct gateway.tls, or the file's rights"
            ) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except _Encrypted:
        cure = "write it without: openssl pkey -in KEY -out NEW"
        raise TlsError(f"the TLS key {files.key} has a password; {cure}") from None
    except ssl.SSLError as problem:
        raise TlsError(_said(files, problem)) from None
    return context


class Watcher:
    """Looks at the files every LOOK_EVERY_S, and when it is told to."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        import structlog

        log = structlog.get_logger(__name__)
        try:
            if self._tls.look():
                log.info("new TLS certificate in force")
        except TlsError as wrong:
            log.error("the new TLS certificate cannot be used; the old one stays in force", reason=str(wrong))


class _Encrypted(Exception):
    pass


def _no_password() -> str:
    """Instead of a question on the terminal."""
    raise _Encrypted


def _said(files: TlsFiles, problem: ssl.SSLError) -> str:
    if problem.reason == "KEY_VALUES_MISMATCH":
        return f"the TLS key {files.key} does not belong to the certificate {files.cert}; name those made together"
    return f"{files.cert} and {files.key} are no TLS certificate and key in PEM form ({problem.reason or problem})"


def _seen(path: Path) -> object:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_ino, stat.st_size)
