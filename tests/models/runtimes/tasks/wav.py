"""WAV files of any layout, as the bytes that a caller sends."""

from __future__ import annotations

import struct

import numpy as np


def wav(samples, rate=16_000, *, kind=1, bits=16, channels=1, extra=b""):
    """``samples`` are bytes, or numbers from -1 to 1 that become 16 bits."""
    data = samples if isinstance(samples, bytes) else (np.asarray(samples) * 32767).astype("<i2").tobytes()
    width = bits // 8 * channels
    layout = struct.pack("<HHIIHH", kind, channels, rate, rate * width, width, bits)
    body = b"WAVE" + extra + chunk(b"fmt ", layout) + chunk(b"data", data)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def chunk(name, content):
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
