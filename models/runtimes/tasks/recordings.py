"""Reads recordings that callers send: WAV files of whole or floating numbers, any number of channels."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from models.runtimes.tasks.transcripts import Recording
from models.runtimes.torch.api import ApiError

LONGEST_S = 900.0
LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
WHOLE, FLOATING, EXTENSIBLE = 1, 3, 0xFFFE  # formats of the "fmt " chunk
_FULL_SCALE = {1: 2**7, 2: 2**15, 3: 2**23, 4: 2**31}


def read_recording(data: bytes, field: str = "file") -> Recording:
    """Of the first few formats there ever were. Raises ApiError naming the field."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ApiError(400, f"`{field}` must be a WAV file: this model reads no other format", field)
    chunks = _chunks(data)
    layout = chunks.get(b"fmt ", b"")
    if len(layout) < 16 or b"data" not in chunks:
        raise ApiError(400, f"`{field}` is a WAV file without its sound or without what describes it", field)
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", layout)
    if kind == EXTENSIBLE and len(layout) >= 26:
        (kind,) = struct.unpack_from("<H", layout, 24)
    if not 1 <= channels <= 32 or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        said = f"{channels} channels at {rate} Hz"
        raise ApiError(400, f"`{field}` has {said}; send 1 to 32 at {LOWEST_RATE} to {HIGHEST_RATE} Hz", field)
    samples = _samples(chunks[b"data"], kind, bits // 8 if bits % 8 == 0 else 0, channels, field)
    if not len(samples):
        raise ApiError(400, f"`{field}` has no sound in it", field)
    recording = Recording(samples, rate)
    if recording.duration_s > LONGEST_S:
        message = f"`{field}` is {recording.duration_s:.0f} s long, at most {LONGEST_S:.0f} s are taken"
        raise ApiError(400, message, field)
    return recording


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """By name, the first of each. A length beyond the end means up to the end: encoders that stream write so."""
    found: dict[bytes, bytes] = {}
    place = 12
    while place + 8 <= len(data):
        (size,) = struct.unpack_from("<I", data, place + 4)
        found.setdefault(data[place : place + 4], data[place + 8 : place + 8 + size])
        place += 8 + size + size % 2
    return found


def _samples(data: bytes, kind: int, width: int, channels: int, field: str) -> NDArray[np.float32]:
    data = data[: len(data) - len(data) % (max(width, 1) * channels)]
    if kind == FLOATING and width in (4, 8):
        values = np.frombuffer(data, f"<f{width}").astype(np.float32)
    elif kind == WHOLE and width in _FULL_SCALE:
        values = _whole(data, width)
        values /= _FULL_SCALE[width]
    else:
        raise ApiError(400, f"`{field}` holds coded sound (format {kind}, {width} whole bytes); send PCM", field)
    mixed: NDArray[np.float32] = values
    if channels > 1:
        mixed = values.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    # In place: a long recording is large, and every copy of it would be as large.
    np.nan_to_num(mixed, copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
    np.clip(mixed, -1, 1, out=mixed)
    return mixed


def _whole(data: bytes, width: int) -> NDArray[np.float32]:
    if width == 1:  # the only one without a sign
        unsigned = np.frombuffer(data, "u1").astype(np.float32)
        unsigned -= 128
        return unsigned
    if width == 3:
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, "u1").reshape(-1, 3)
        return (wide.reshape(-1).view("<i4") >> 8).astype(np.float32)
    return np.frombuffer(data, f"<i{width}").astype(np.float32)
