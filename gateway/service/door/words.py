"""What is said at the door. Nothing secret: both sides prove that they know the secret, by HMAC-SHA-256 (RFC 2104)."""

from __future__ import annotations

import hashlib
import hmac
import platform
from importlib import metadata

from msgspec import Struct

from gateway.version import version

HELLO, LEAVE = "/v1/hello", "/v1/leave"
NONCE_HEADER, PROOF_HEADER = "x-roundhouse-nonce", "x-roundhouse-proof"
LONGEST_BODY_BYTES = 64 * 1024


class Versions(Struct, frozen=True, kw_only=True):
    """What has to be the same on all machines: Ray refuses others, and so do actors made of our own classes."""

    roundhouse: str
    ray: str
    python: str


class Hello(Struct, frozen=True, kw_only=True):
    """``identity``: see ``models.cluster.Cluster``. ``address``: where the others reach this machine.

    ``joining``: it is about to join, and wants to know more than whether the head is there.
    """

    name: str
    identity: str
    address: str
    versions: Versions
    joining: bool = False


class Welcome(Struct, frozen=True, kw_only=True):
    """``session``: of the Ray that runs on the head; None while it does not. ``seen_as``: whence the caller comes.

    To one that is joining: ``own_redis`` as in ``models.cluster.Cluster``; ``simulated``: whether the configuration
    names simulated GPUs for nodes that name none, None when it cannot be read; ``url``: of the head's gateway, where
    other machines can reach it.
    """

    head: str
    session: str | None
    seen_as: str
    own_redis: bool = False
    simulated: bool | None = None
    url: str | None = None


class Refusal(Struct, frozen=True, kw_only=True):
    """``code``: wrong_secret | name_taken | version_mismatch | invalid_request."""

    code: str
    message: str
    cure: str


def own_versions() -> Versions:
    return Versions(roundhouse=version(), ray=metadata.version("ray"), python=platform.python_version())


def request_proof(key: str, nonce: str, path: str, body: bytes) -> str:
    return _proof(key, b"ask", nonce, path, body)


def answer_proof(key: str, nonce: str, status: int, body: bytes) -> str:
    return _proof(key, b"answer", nonce, str(status), body)


def _proof(key: str, what: bytes, nonce: str, head: str, body: bytes) -> str:
    message = b"\0".join((what, nonce.encode(errors="replace"), head.encode(), hashlib.sha256(body).digest()))
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


def same(one: str, other: str) -> bool:
    """In a time that tells nothing of where they differ. What was sent as other bytes than text is not the same."""
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))
