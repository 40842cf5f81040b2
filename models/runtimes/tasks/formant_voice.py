"""A small voice: letters become sounds by rules, sounds become the resonances of a throat, and those are made audible.

A source-filter synthesiser (Klatt 1980, doi:10.1121/1.383940, in outline): the harmonics of a pitch through three
resonances, and noise in a band, both moving smoothly from sound to sound. It is understood with goodwill.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from models.runtimes.protocol import EngineError
from models.runtimes.tasks.sounds import Sound, SpeechOrder
from models.runtimes.tasks.text_encoder import read_tokenizer
from models.runtimes.torch.model import BadInput
from models.runtimes.torch.weights import Weights

FRAME = 120  # samples; tracks have one value per frame
SMOOTHING_FRAMES = 7  # a mouth takes some 35 ms from one sound to the next
FADE_FRAMES = 3
HIGHEST_HARMONIC_HZ = 4500.0
WINDOW = 480
# Columns of the table of sounds.
DURATION, VOICED, NOISE, FORMANTS, BAND, BAND_WIDTH = 0, 1, 2, slice(3, 6), 6, 7
SOUND_COLUMNS, VOICE_COLUMNS = 8, 3  # of a voice: pitch (Hz), length of the throat (1 is an adult man's), breath
FORMANT_WIDTHS_HZ = (80.0, 110.0, 160.0)
PITCH_FROM, PITCH_TO = 1.12, 0.86  # over a phrase
LOUDNESS = 0.3

NOISE_GAIN = 10.0
_PHRASE = re.compile(r"[^.,;:!?\n]+[.,;:!?\n]*")


class VoiceNet(nn.Module):
    """``sounds``: (n, SOUND_COLUMNS), ``voices``: (n, VOICE_COLUMNS)."""

    def __init__(self, sounds: int, voices: int, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.sounds = nn.Parameter(torch.empty(sounds, SOUND_COLUMNS))
        self.voices = nn.Parameter(torch.empty(voices, VOICE_COLUMNS))

    def forward(self, sounds: torch.Tensor, voice: int, speed: float, noise: torch.Generator) -> torch.Tensor:
        """Sounds by number (n,) to samples from -1 to 1, of shape (samples,)."""
        pitch_hz, throat, breath = self.voices.float()[voice].tolist()
        rows = self.sounds.float()[sounds]
        frames = (rows[:, DURATION] * self.sample_rate / FRAME / speed).round().long().clamp(min=2)
        tracks = _smooth(rows.repeat_interleave(frames, dim=0))
        tracks[:, FORMANTS] /= throat
        fall = torch.linspace(PITCH_FROM, PITCH_TO, len(tracks), device=tracks.device)
        voiced = self._voiced(tracks, pitch_hz * fall)
        hissed = self._noise(tracks, breath, noise)[: len(voiced)]
        return (LOUDNESS * (voiced + hissed)).tanh()

    def _voiced(self, tracks: torch.Tensor, pitch_hz: torch.Tensor) -> torch.Tensor:
        """Harmonics, each as strong as the resonances make it. Frames go in, samples come out."""
        count = int(HIGHEST_HARMONIC_HZ / float(pitch_hz.mean()))
        numbers = torch.arange(1, count + 1, device=tracks.device)
        harmonics_hz = pitch_hz[:, None] * numbers
        power = torch.zeros_like(harmonics_hz)
        for rank, (formant_hz, width_hz) in enumerate(zip(tracks[:, FORMANTS].T, FORMANT_WIDTHS_HZ, strict=True)):
            half = (width_hz / 2) ** 2
            # A throat gives less of the high tones.
            power += half / ((harmonics_hz - formant_hz[:, None]) ** 2 + half) / (rank + 1) ** 3
        strength = power.sqrt() * tracks[:, VOICED, None]
        phase = 2 * math.pi * torch.cumsum(_per_sample(pitch_hz[:, None])[:, 0].double() / self.sample_rate, 0)
        waves = (phase[:, None] * numbers).sin().float()
        return (_per_sample(strength) * waves).sum(1)

    def _noise(self, tracks: torch.Tensor, breath: float, noise: torch.Generator) -> torch.Tensor:
        """Noise in a band that moves: random phases, given their strengths frequency by frequency."""
        frequencies = torch.linspace(0, self.sample_rate / 2, WINDOW // 2 + 1)
        phases = 2 * math.pi * torch.rand(len(tracks) + 1, len(frequencies), generator=noise)
        cpu = tracks.cpu()
        band = torch.exp(-(((frequencies - cpu[:, BAND, None]) / cpu[:, BAND_WIDTH, None]) ** 2))
        strength = (cpu[:, NOISE, None] + breath * cpu[:, VOICED, None]) * band
        strength = torch.cat([strength, torch.zeros(1, len(frequencies))])
        spectrum = torch.polar(strength, phases).T
        window = torch.hann_window(WINDOW)
        return NOISE_GAIN * torch.istft(spectrum, WINDOW, FRAME, window=window).to(tracks.device)


class FormantVoice:
    """tokenizer.json has a token for each group of letters that is one sound or a few, and config.json says which.

    config.json: ``sample_rate``, ``voices`` (names), ``sounds`` (how many), ``spelling`` (lists of sounds by token) and
    ``pauses`` (between words, after phrases).
    """

    task: ClassVar[str] = "speech"
    batch_size: ClassVar[int] = 4

    def __init__(self) -> None:
        self.sample_rate = 0
        self.voices: tuple[str, ...] = ()
        self._spelling: list[list[int]] = []
        self._pauses: tuple[int, int] = (0, 0)
        self._net: VoiceNet
        self._device = torch.device("cpu")

    def load(self, device: torch.device, weights: Weights) -> None:
        """Raises EngineError."""
        config = weights.config
        try:
            self.sample_rate = int(config["sample_rate"])
            self.voices = tuple(map(str, config["voices"]))
            self._spelling = [[int(sound) for sound in sounds] for sounds in config["spelling"]]
            between, after = config["pauses"]
            self._pauses = (int(between), int(after))
            shape = (int(config["sounds"]), len(self.voices), self.sample_rate)
        except (KeyError, TypeError, ValueError) as problem:
            raise EngineError(f"config.json does not describe a voice: {problem}", "weights") from problem
        self._net = weights.build(lambda: VoiceNet(*shape))
        self._tokenizer = read_tokenizer(weights.folder)
        self._device = device

    def predict(self, batch: list[Any]) -> list[Any]:
        """``SpeechOrder`` to ``Sound``. Raises BadInput when there is nothing to say."""
        return [_joined(list(self.stream(order))) for order in batch]

    def stream(self, item: SpeechOrder) -> Iterator[Sound]:
        """Phrase by phrase."""
        phrases = [sounds for text in _PHRASE.findall(item.text) if (sounds := self.sounds_of(text))]
        if not phrases:
            raise BadInput("`input` has nothing in it that this voice can say: it knows the letters a to z and digits")
        noise = torch.Generator().manual_seed(0)
        voice = self.voices.index(item.voice)
        for sounds in phrases:
            yield Sound(self._spoken(sounds, voice, item.speed, noise), len(sounds))

    def example(self) -> SpeechOrder:
        return SpeechOrder("the line is clear", self.voices[0], 1.0)

    def sounds_of(self, phrase: str) -> list[int]:
        """Numbers of sounds, a pause at the end. Empty when there is nothing to say."""
        encoding = self._tokenizer.encode(phrase)
        found: list[int] = []
        last: int | None = None
        for token, word in zip(encoding.ids, encoding.word_ids, strict=True):
            if not (sounds := self._spelling[token]):
                continue  # a mark, or letters that it has never learned
            if found and word != last:
                found.append(self._pauses[0])
            found += sounds
            last = word
        return [*found, self._pauses[1]] if found else []

    @torch.inference_mode()
    def _spoken(self, sounds: Sequence[int], voice: int, speed: float, noise: torch.Generator) -> Any:
        numbers = torch.tensor(sounds, device=self._device)
        return self._net(numbers, voice, speed, noise).cpu().numpy()


def _joined(sounds: Sequence[Sound]) -> Sound:
    return Sound(np.concatenate([sound.samples for sound in sounds]), sum(sound.tokens for sound in sounds))


def _smooth(tracks: torch.Tensor) -> torch.Tensor:
    """Each column's running mean, and silence at both ends."""
    padding = SMOOTHING_FRAMES // 2
    padded = nn.functional.pad(tracks.T[None], (padding, padding), mode="replicate")
    smooth = nn.functional.avg_pool1d(padded, SMOOTHING_FRAMES, stride=1)[0].T.contiguous()
    ramp = torch.linspace(0, 1, FADE_FRAMES, device=tracks.device)[: len(smooth)]
    for column in (VOICED, NOISE):
        smooth[: len(ramp), column] *= ramp
        smooth[-len(ramp) :, column] *= ramp.flip(0)
    return smooth


def _per_sample(tracks: torch.Tensor) -> torch.Tensor:
    """(frames, columns) to (samples, columns), straight from one frame to the next."""
    length = len(tracks) * FRAME
    return nn.functional.interpolate(tracks.T[None], size=length, mode="linear", align_corners=True)[0].T
