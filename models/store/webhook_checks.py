"""What a webhook's URL and secret may be. Pure."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import urlsplit

PREFIX = "whsec_"  # https://www.standardwebhooks.com: the secret's bytes follow, in base64
SHORTEST_BYTES, LONGEST_BYTES = 24, 64


class UrlNotValid(ValueError):
    """What is wrong with a webhook's URL."""


class SecretNotValid(ValueError):
    """What is wrong with a webhook's secret; never the secret."""


def check_url(url: str) -> None:
    """Raises UrlNotValid."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as wrong:
        raise UrlNotValid(f"{url[:200]!r} is no URL: {wrong}") from wrong
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise UrlNotValid(f"{url[:200]!r} is no URL; write https://host/path")
    if parts.username is not None or parts.password is not None:
        raise UrlNotValid("a webhook's URL holds no password; payloads are signed instead")


def secrets_of(text: str) -> list[bytes]:
    """One, or several with blanks between them while they are being changed. Raises SecretNotValid."""
    if not text.split():
        raise SecretNotValid("a webhook needs a secret: whsec_ and 24 to 64 random bytes in base64")
    return [_bytes_of(each) for each in text.split()]


def _bytes_of(text: str) -> bytes:
    if not text.startswith(PREFIX):
        raise SecretNotValid("a webhook's secret begins with whsec_; 24 to 64 random bytes in base64 follow")
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error as wrong:
        raise SecretNotValid("a webhook's secret is base64 after whsec_") from wrong
    if not SHORTEST_BYTES <= len(secret) <= LONGEST_BYTES:
        raise SecretNotValid(f"a webhook's secret has {SHORTEST_BYTES} to {LONGEST_BYTES} bytes, not {len(secret)}")
    return secret
