"""Which recordings are read, and what a caller is told of the others."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from models.runtimes.tasks.recordings import LONGEST_S, read_recording
from models.runtimes.torch.api import ApiError
from tests.models.runtimes.tasks.wav import chunk, wav

RAMP = np.array([0.0, 0.5, -0.5, 0.25], np.float32)


@pytest.mark.parametrize(
    ("data", "kind", "bits"),
    [
        ((RAMP * 127 + 128).astype("u1").tobytes(), 1, 8),
        ((RAMP * 32767).astype("<i2").tobytes(), 1, 16),
        (b"".join(int(v * 8388607).to_bytes(3, "little", signed=True) for v in RAMP), 1, 24),
        ((RAMP.astype("f8") * 2147483647).astype("<i4").tobytes(), 1, 32),
        (RAMP.astype("<f4").tobytes(), 3, 32),
        (RAMP.astype("<f8").tobytes(), 3, 64),
    ],
)
def test_whole_and_floating_samples_of_every_width(data, kind, bits):
    recording = read_recording(wav(data, 22_050, kind=kind, bits=bits))
    assert recording.sample_rate == 22_050
    assert recording.samples.dtype == np.float32
    assert np.allclose(recording.samples, RAMP, atol=0.01)


def test_channels_are_mixed_and_a_broken_last_frame_is_left_out():
    stereo = np.stack([RAMP, -RAMP], axis=1).astype("<f4").tobytes()
    recording = read_recording(wav(stereo + b"\0\0", kind=3, bits=32, channels=2))
    assert recording.samples.tolist() == [0, 0, 0, 0]


def test_other_chunks_are_passed_over_also_those_of_odd_length():
    data = wav(RAMP, extra=chunk(b"LIST", b"odd") + chunk(b"fact", b"1234"))
    assert len(read_recording(data).samples) == 4


def test_a_file_that_was_streamed_says_no_length():
    data = bytearray(wav(RAMP))
    data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    assert len(read_recording(bytes(data)).samples) == 4


def test_noise_that_is_no_number_is_silence():
    data = np.array([np.nan, np.inf, -np.inf, 9], "<f4").tobytes()
    assert read_recording(wav(data, kind=3, bits=32)).samples.tolist() == [0, 1, -1, 1]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "must be a WAV file"),
        (b"ID3\x04" + bytes(100), "must be a WAV file"),
        (b"RIFF\0\0\0\0WAVE", "without its sound"),
        (wav(b""), "no sound in it"),
        (wav(RAMP, 1000), "at 1000 Hz"),
        (wav(RAMP, channels=0), "0 channels"),
        (wav(RAMP, kind=6, bits=8), "coded sound"),
        (wav(RAMP, bits=12), "coded sound"),
    ],
)
def test_what_cannot_be_heard_is_refused_by_name(data, said):
    with pytest.raises(ApiError, match=said) as refused:
        read_recording(data)
    assert (refused.value.status, refused.value.param) == (400, "file")


def test_a_recording_may_be_a_quarter_of_an_hour_long():
    with pytest.raises(ApiError, match="901 s long, at most 900 s"):
        read_recording(wav(bytes(2 * 8000 * (int(LONGEST_S) + 1)), 8000))
