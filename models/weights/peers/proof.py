"""How two nodes show each other that they know the cluster's key without sending it, whoever listens.

The asking side sends a nonce and an HMAC of what it asks for; the answering side signs what it says with that nonce. So
a key cannot be learned from the wire, and sums of files cannot be foisted on anybody by whoever took a node's address.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

HEADER = "x-roundhouse-proof"
_NONCE_BYTES = 16


def ask(key: str, path: str) -> tuple[str, str]:
    """(the header's value for a GET of ``path``, its nonce)."""
    nonce = secrets.token_hex(_NONCE_BYTES)
    return f"{nonce}:{_sign(key, f'GET {path} {nonce}')}", nonce


def asked(key: str, path: str, value: str | None) -> str | None:
    """The nonce of a request that may be answered; None for any other. In constant time."""
    nonce, _, proof = (value or "").partition(":")
    sound = len(nonce) == 2 * _NONCE_BYTES and nonce.isascii() and proof.isascii()
    return nonce if sound and hmac.compare_digest(proof, _sign(key, f"GET {path} {nonce}")) else None


def signed(key: str, nonce: str, body: bytes) -> str:
    """The header's value of an answer."""
    return _sign(key, f"{nonce} {hashlib.sha256(body).hexdigest()}")


def agrees(key: str, nonce: str, body: bytes, value: str | None) -> bool:
    """Whether an answer comes from somebody who knows the key, and to this very question."""
    return value is not None and value.isascii() and hmac.compare_digest(value, signed(key, nonce, body))


def _sign(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
