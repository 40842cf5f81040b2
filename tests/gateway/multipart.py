"""Multipart forms as browsers and SDKs write them."""

from __future__ import annotations

BOUNDARY = "----roundhouse-7MA4YWxkTrZu0gW"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    """One field, as a file where it has a ``filename``."""
    disposition = f'content-disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"\r\ncontent-type: application/octet-stream'
    return f"{disposition}\r\n\r\n".encode() + value


def form(*parts: bytes) -> bytes:
    line = f"--{BOUNDARY}"
    return b"".join(f"{line}\r\n".encode() + part + b"\r\n" for part in parts) + f"{line}--\r\n".encode()
