"""What an ear makes of sound."""

from __future__ import annotations

import numpy as np
import pytest

from models.runtimes.tasks.bands import BANDS, CONTEXT, FEATURES, FLOOR, features, log_bands, with_neighbours


def tone(hertz, seconds=0.5, rate=16_000):
    return np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate).astype(np.float32)


def middle(heard):
    """The bands of the middle frame alone."""
    return heard[len(heard) // 2, CONTEXT * BANDS : (CONTEXT + 1) * BANDS]


def test_a_hundred_frames_a_second_at_any_rate():
    for rate in (8_000, 16_000, 24_000, 48_000):
        assert features(tone(440, 0.5, rate), rate).shape == (50, FEATURES)
    assert features(tone(440, 0.001), 16_000).shape == (1, FEATURES)


def test_a_higher_tone_is_heard_in_a_higher_band():
    loudest = [int(middle(features(tone(hertz), 16_000)).argmax()) for hertz in (200, 500, 1000, 2000, 4000)]
    assert loudest == sorted(set(loudest))


def test_the_rate_of_a_recording_does_not_matter():
    low, high = (middle(features(tone(1000, rate=rate), rate)) for rate in (16_000, 24_000))
    assert low.argmax() == high.argmax()
    assert np.abs(low - high).max() < 0.5


def test_how_loud_it_was_does_not_matter():
    assert np.allclose(features(tone(700), 16_000), features(0.01 * tone(700), 16_000), atol=1e-3)


def test_silence_is_the_floor():
    heard = features(np.zeros(16_000, np.float32), 16_000)
    assert heard == pytest.approx(np.log(FLOOR))


def test_neighbours_are_part_of_a_frame():
    heard = features(np.concatenate([tone(300, 0.2), tone(3000, 0.2)]), 16_000)
    before, after = heard[:, :BANDS], heard[:, -BANDS:]
    assert np.array_equal(after[: -2 * CONTEXT], before[2 * CONTEXT :])
    assert before[20].argmax() < after[20].argmax()


def test_a_part_is_heard_as_in_the_whole():
    logs = log_bands(tone(700, 0.6), 16_000)
    whole = with_neighbours(logs, 0, len(logs))
    assert np.array_equal(with_neighbours(logs, 20, 40), whole[20:40])
    assert np.array_equal(whole, features(tone(700, 0.6), 16_000))
