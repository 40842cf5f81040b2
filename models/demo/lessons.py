"""Sounds as the demo's voice makes them, for its ear to learn from: the same figures, made audible with numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.demo.tensors import Real
from models.demo.voice import SAMPLE_RATE, SOUNDS, VOICES

FRAME = 120  # samples
SMOOTHING_FRAMES = 7
WINDOW = 480
HIGHEST_HARMONIC_HZ = 4500.0
WIDTHS_HZ = (80.0, 110.0, 160.0)
PITCH_FROM, PITCH_TO = 1.12, 0.86
LOUDNESS, NOISE_GAIN = 0.3, 10.0

Numbers = NDArray[np.int64]

_TABLE = np.array(list(SOUNDS.values()))


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """``labels``: which sound each FRAME of ``samples`` is."""

    samples: Real
    labels: Numbers


def say(sounds: Sequence[int], voice: str, speed: float, rng: np.random.Generator) -> Lesson:
    """A row of sounds by their numbers, as ``models.runtimes.tasks.formant_voice`` would say it."""
    pitch_hz, throat, breath = VOICES[voice]
    rows = _TABLE[list(sounds)]
    frames = np.maximum((rows[:, 0] * SAMPLE_RATE / FRAME / speed).round().astype(int), 2)
    tracks = _smooth(np.repeat(rows, frames, axis=0))
    tracks[:, 3:6] /= throat
    pitch = pitch_hz * np.linspace(PITCH_FROM, PITCH_TO, len(tracks))
    samples = np.tanh(LOUDNESS * (_voiced(tracks, pitch) + _noise(tracks, breath, rng)))
    return Lesson(samples, np.repeat(np.array(sounds), frames))


def _voiced(tracks: Real, pitch_hz: Real) -> Real:
    numbers = np.arange(1, int(HIGHEST_HARMONIC_HZ / pitch_hz.mean()) + 1)
    harmonics_hz = pitch_hz[:, None] * numbers
    power = np.zeros_like(harmonics_hz)
    for rank, width_hz in enumerate(WIDTHS_HZ):
        half = (width_hz / 2) ** 2
        power += half / ((harmonics_hz - tracks[:, 3 + rank, None]) ** 2 + half) / (rank + 1) ** 3
    strength = _per_sample(np.sqrt(power) * tracks[:, 1, None]).astype(np.float32)
    turns = np.cumsum(_per_sample(pitch_hz[:, None])[:, 0] / SAMPLE_RATE)
    waves = np.sin((2 * np.pi * (turns[:, None] * numbers % 1)).astype(np.float32))
    summed: Real = np.einsum("sh,sh->s", strength, waves)
    return summed


def _noise(tracks: Real, breath: float, rng: np.random.Generator) -> Real:
    hertz = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    band = np.exp(-(((hertz - tracks[:, 6, None]) / tracks[:, 7, None]) ** 2))
    strength = (tracks[:, 2, None] + breath * tracks[:, 1, None]) * band
    spectrum = strength * np.exp(2j * np.pi * rng.random(strength.shape))
    pieces = np.fft.irfft(spectrum) * np.hanning(WINDOW)
    # Overlapping windows of squared weight 1.5 in all, as an inverse short-time transform has it.
    made = np.zeros(len(tracks) * FRAME + WINDOW)
    for index, piece in enumerate(pieces):
        made[index * FRAME : index * FRAME + WINDOW] += piece
    return NOISE_GAIN * made[WINDOW // 2 : WINDOW // 2 + len(tracks) * FRAME] / 1.5


def _smooth(tracks: Real) -> Real:
    kernel = np.ones(SMOOTHING_FRAMES) / SMOOTHING_FRAMES
    padded = np.pad(tracks, ((SMOOTHING_FRAMES // 2,) * 2, (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel, "valid") for column in padded.T], axis=1)


def _per_sample(tracks: Real) -> Real:
    places = np.linspace(0, len(tracks) - 1, len(tracks) * FRAME)
    return np.stack([np.interp(places, np.arange(len(tracks)), column) for column in tracks.T], axis=1)
