"""TLS for a connection that reads and writes its own socket: bytes in, bytes out."""

from __future__ import annotations

import ssl

PIECE_BYTES = 32 * 1024


class Tls:
    """``outgoing``: encrypted, not sent yet. ``ready``: the two sides know each other."""

    def __init__(self, context: ssl.SSLContext, server_name: str) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_hostname=server_name)
        self.ready = False
        self.outgoing = b""

    def wrap(self, plain: bytes) -> bytes:
        """Encrypts; what could not be yet is returned. Raises ssl.SSLError."""
        if self._shaken() and plain:
            plain = plain[self._object.write(plain) :]
        self.outgoing += self._out.read()
        return plain

    def unwrap(self, data: bytes) -> bytes:
        """Raises ssl.SSLError."""
        self._in.write(data)
        found = []
        if self._shaken():
            try:
                while piece := self._object.read(PIECE_BYTES):
                    found.append(piece)
            except ssl.SSLWantReadError:
                pass
        self.outgoing += self._out.read()
        return b"".join(found)

    def _shaken(self) -> bool:
        if not self.ready:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                return False
            self.ready = True
        return True
