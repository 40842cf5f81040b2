"""What the demo's ear is made from: the corpus's words, and lessons by the demo's voice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from models.demo.corpus import read_corpus
from models.demo.ear import vocabulary
from models.demo.lessons import say
from models.demo.voice import SAMPLE_RATE, SOUNDS, VOICES, Speller

NUMBERS = {name: number for number, name in enumerate(SOUNDS)}


def test_it_knows_the_words_that_the_demo_speaks_of() -> None:
    words = vocabulary()
    text = " ".join(paragraph for section in read_corpus().values() for paragraph in section).lower()
    assert words[0] in text
    assert {"train", "water", "aboard", "a", "i"} <= set(words)
    assert len(words) == len(set(words)) > 1500
    assert not {"b", "s"} & set(words), "letters are no words"


def test_every_word_has_sounds_and_the_rarer_costs_more(demo_root: Path) -> None:
    config = json.loads((demo_root / "tiny-ear" / "config.json").read_text())
    words = (demo_root / "tiny-ear" / "vocab.txt").read_text().split()
    assert len(words) == len(config["pronunciations"]) == len(config["costs"])
    assert config["costs"] == sorted(config["costs"])
    assert all(config["pronunciations"])
    told_apart = {number for each in config["pronunciations"] for number in each}
    assert NUMBERS["stop"] not in told_apart, "it is as silent as a pause"


def test_a_lesson_says_which_sound_is_when() -> None:
    sounds = Speller().sounds_of("train")
    lesson = say(sounds, "guard", 1.0, np.random.default_rng(1))
    assert list(dict.fromkeys(lesson.labels.tolist())) == sounds
    assert len(lesson.samples) == len(lesson.labels) * 120
    spoken_s = sum(SOUNDS[name][0] for name in SOUNDS for sound in sounds if NUMBERS[name] == sound)
    assert abs(len(lesson.samples) / SAMPLE_RATE - spoken_s) < 0.05
    assert 0.05 < np.abs(lesson.samples).max() <= 1


def test_faster_is_shorter_and_voices_differ() -> None:
    sounds = Speller().sounds_of("station")
    slow, fast = (say(sounds, "guard", speed, np.random.default_rng(1)).samples for speed in (0.8, 1.6))
    assert len(slow) > 1.8 * len(fast)
    pitches = {strongest_low_hz(say(sounds, voice, 1.0, np.random.default_rng(1)).samples) for voice in VOICES}
    assert len(pitches) == len(VOICES)


def test_a_pause_is_silent() -> None:
    lesson = say([NUMBERS["rest"]], "guard", 1.0, np.random.default_rng(1))
    assert np.abs(lesson.samples).max() < 1e-6


def strongest_low_hz(samples: np.ndarray) -> int:
    spectrum = np.abs(np.fft.rfft(samples, SAMPLE_RATE))
    return int(spectrum[60:260].argmax()) + 60
