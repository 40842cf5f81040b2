"""Signatures of webhooks, as https://www.standardwebhooks.com has them: any of its libraries checks ours. Pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable


def headers(message_id: str, unix_s: int, body: bytes, secrets: Iterable[bytes]) -> dict[str, str]:
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
