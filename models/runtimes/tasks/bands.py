"""What an ear makes of sound: how loud each band of tones is, a hundred times a second. Needs numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRAMES_PER_S = 100
WINDOW_S = 0.025
BANDS = 20
LOWEST_HZ, HIGHEST_HZ = 120.0, 7600.0
CONTEXT = 5  # frames on either side that belong to what is heard in one
FLOOR = 1e-4  # of the power of the loudest frames: what lies below is silence
LOUD_SHARE = 95  # the percentile that counts as loud
FEATURES = BANDS * (2 * CONTEXT + 1)
CHUNK_SAMPLES = 1 << 18

Floats = NDArray[np.float32]


def features(samples: Floats, sample_rate: int) -> Floats:
    """Of shape (frames, FEATURES): logarithms of the bands' powers, each frame with its neighbours.

    Sound of any rate: bands above half of it are silent.
    """
    logs = log_bands(samples, sample_rate)
    return with_neighbours(logs, 0, len(logs))


def with_neighbours(logs: Floats, start: int, end: int) -> Floats:
    """Frames from ``start`` up to ``end``, each with CONTEXT others on either side: of shape (frames, FEATURES).

    Of a long recording a part at a time: all of it would take eleven times the room of its bands.
    """
    places = np.arange(start, end)[:, None] + np.arange(-CONTEXT, CONTEXT + 1)
    joined: Floats = logs[np.clip(places, 0, len(logs) - 1)].reshape(end - start, FEATURES)
    return joined


def log_bands(samples: Floats, sample_rate: int) -> Floats:
    """Of shape (frames, BANDS)."""
    hop, width = sample_rate // FRAMES_PER_S, int(sample_rate * WINDOW_S)
    padded = np.pad(samples, (width // 2, width))
    frames = max(1, len(samples) // hop)
    window = np.hanning(width).astype(np.float32)
    weights = _triangles(sample_rate, width)
    power = np.empty((frames, BANDS), np.float32)
    views = np.lib.stride_tricks.sliding_window_view(padded, width)[::hop]
    step = max(1, CHUNK_SAMPLES // width)
    for start in range(0, frames, step):  # a long recording's spectra would take far more room than it does
        spectrum = np.fft.rfft(views[start : min(start + step, frames)] * window)
        power[start : start + step] = (np.abs(spectrum) ** 2) @ weights
    loud = float(np.percentile(power.sum(axis=1), LOUD_SHARE)) or 1.0
    logs: Floats = np.log(power / loud + FLOOR).astype(np.float32)
    return logs


def _triangles(sample_rate: int, width: int) -> Floats:
    """Of shape (frequencies, BANDS), spaced by the mel scale (O'Shaughnessy 1987)."""
    edges = _hertz(np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), BANDS + 2))
    hertz = np.fft.rfftfreq(width, 1 / sample_rate)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    weights: Floats = np.clip(np.minimum(rising, falling), 0, None).astype(np.float32)
    return weights


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 700 * (10 ** (mel / 2595) - 1)
    return found
