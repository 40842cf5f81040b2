"""A small ear that has learned from the demo's voice, and from nobody else.

How each sound is told from the others is worked out in one step: linear discriminants with one covariance for all of
them (Fisher 1936; Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", 4.3).
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from models.demo.chat import write_json
from models.demo.corpus import read_corpus
from models.demo.lessons import Lesson, Numbers, say
from models.demo.tensors import Real, generator, write_whole
from models.demo.voice import SAMPLE_RATE, SOUNDS, VOICES, Speller
from models.demo.words import common_words
from models.runtimes.tasks.bands import FRAMES_PER_S, features

SEED = 17
SPEEDS = (0.9, 1.1)
LESSON_WORDS = 80
COMMON_WORDS = 1200
RAILWAY_WORDS = ("aboard", "hello", "welcome", "goodbye")
ALONE = ("a", "i")  # the only letters that are words
BLUR = 0.05  # added to the variance of every feature, for what was not in the lessons
WORD_COST, RARITY_COST = 14.0, 3.0  # of any word, and times the logarithm of its rank
EXAMPLE = "the line is clear"
_SILENT = ("pause", "rest", "stop")  # nobody can tell these apart


def make_ear(folder: Path) -> None:
    """Write the model into ``folder``, which exists. Raises EmbedderMissing."""
    speller = Speller()
    words = [word for word in vocabulary() if speller.sounds_of(word)]
    numbers = {name: number for number, name in enumerate(SOUNDS)}
    silence = numbers[_SILENT[0]]
    heard_as = np.array([silence if name in _SILENT else number for name, number in numbers.items()])
    spoken = [speller.sounds_of(word) for word in words]
    rng = generator(SEED, "lessons")
    weight, bias = _discriminants(spoken, heard_as, silence, rng)
    example = [sound for word in EXAMPLE.split() for sound in (*speller.sounds_of(word), silence)]
    samples = say(example, next(iter(VOICES)), 1.0, rng).samples
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    write_json(
        folder / "config.json",
        {
            "architectures": ["LexiconEar"],
            "model_type": "lexicon-ear",
            "sounds": len(SOUNDS),
            "silence": silence,
            "pronunciations": [heard_as[each].tolist() for each in spoken],
            "costs": [round(WORD_COST + RARITY_COST * float(np.log(1 + rank)), 2) for rank in range(len(words))],
            "example_rate": SAMPLE_RATE,
            "example_samples": len(samples),
        },
    )
    # Not bf16: likelihoods are small differences of large numbers.
    tensors = {"judge.weight": weight, "judge.bias": bias, "example": samples}
    write_whole(
        folder / "model.safetensors",
        save({name: np.ascontiguousarray(each, np.float32) for name, each in tensors.items()}),
    )


def vocabulary() -> list[str]:
    """The corpus's words by how often they are there, then the commonest of the language. Raises EmbedderMissing."""
    text = " ".join(paragraph for section in read_corpus().values() for paragraph in section)
    known = Counter(re.findall(r"[a-z]+", text.lower()))
    words = dict.fromkeys([*(word for word, _ in known.most_common()), *RAILWAY_WORDS, *common_words(COMMON_WORDS)])
    return [word for word in words if len(word) > 1 or word in ALONE]


def _discriminants(
    spoken: list[list[int]], heard_as: Numbers, silence: int, rng: np.random.Generator
) -> tuple[Real, Real]:
    """Weights of shape (sounds, features) and biases; their softmax is how probable each sound is."""
    parts = [_heard(_lesson(spoken, silence, voice, speed, rng)) for voice in VOICES for speed in SPEEDS]
    seen = np.vstack([frames for frames, _ in parts])
    labels = heard_as[np.concatenate([sounds for _, sounds in parts])]
    means = np.zeros((len(SOUNDS), seen.shape[1]))
    for sound in np.unique(labels):
        means[sound] = seen[labels == sound].mean(axis=0)
    apart = seen - means[labels]
    covariance = apart.T @ apart / len(apart) + BLUR * np.eye(seen.shape[1])
    weight: Real = np.linalg.solve(covariance, means.T).T
    bias: Real = -0.5 * (weight * means).sum(axis=1)
    bias[np.setdiff1d(np.arange(len(SOUNDS)), labels)] = -1e4  # what is never heard
    return weight, bias


def _lesson(spoken: list[list[int]], silence: int, voice: str, speed: float, rng: np.random.Generator) -> Lesson:
    chosen = rng.integers(len(spoken), size=LESSON_WORDS)
    return say([sound for word in chosen for sound in (*spoken[word], silence)], voice, speed, rng)


def _heard(lesson: Lesson) -> tuple[Real, Numbers]:
    """Features, and the sound of each of their frames."""
    frames = features(lesson.samples.astype(np.float32), SAMPLE_RATE)
    per_frame = SAMPLE_RATE // FRAMES_PER_S * len(lesson.labels) // len(lesson.samples)
    labels = lesson.labels[::per_frame][: len(frames)]
    return frames[: len(labels)].astype(np.float64), labels
