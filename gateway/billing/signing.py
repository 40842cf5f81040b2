"""Signatures of webhooks, as https://www.standardwebhooks.com has them: any of its libraries checks ours. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable

PREFIX = "whsec_"
SECRET_BYTES = 32
SHORTEST_BYTES, LONGEST_BYTES = 24, 64  # of a secret, as the standard asks


class SecretNotValid(ValueError):
    """What is wrong with a webhook's secret; never the secret."""


def new_secret(random_bytes: Callable[[int], bytes]) -> str:
    return PREFIX + base64.b64encode(random_bytes(SECRET_BYTES)).decode()


def secrets_of(text: str) -> list[bytes]:
    """One, or several with blanks between them while they are being changed. Raises SecretNotValid."""
    if not text.split():
        raise SecretNotValid("a webhook needs a secret: whsec_ and 24 to 64 random bytes in base64")
    return [_bytes_of(each) for each in text.split()]


def headers(message_id: str, unix_s: int, body: bytes, secrets: list[bytes]) -> dict[str, str]:
    """``unix_s``: of this attempt; ``message_id`` is the same in all of them: by it a receiver knows the second one.

    The signature is base64(HMAC-SHA256(secret, "id.timestamp.body")), once for each secret.
    """
    signed = b"%b.%d.%b" % (message_id.encode(), unix_s, body)
    signatures = (base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()) for secret in secrets)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(unix_s),
        "webhook-signature": " ".join(f"v1,{signature.decode()}" for signature in signatures),
    }


def _bytes_of(text: str) -> bytes:
    if not text.startswith(PREFIX):
        raise SecretNotValid("a webhook's secret begins with whsec_")
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error as wrong:
        raise SecretNotValid("a webhook's secret is base64 after whsec_") from wrong
    if not SHORTEST_BYTES <= len(secret) <= LONGEST_BYTES:
        raise SecretNotValid(f"a webhook's secret has {SHORTEST_BYTES} to {LONGEST_BYTES} bytes, not {len(secret)}")
    return secret
