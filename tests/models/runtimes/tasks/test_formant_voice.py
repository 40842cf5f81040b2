"""The voice: what it says, how high, how fast, and in which parts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.demo.make import ensure_model
from models.demo.voice import SOUNDS, VOICES, make_voice
from models.runtimes.protocol import EngineError
from models.runtimes.tasks.formant_voice import FormantVoice
from models.runtimes.tasks.sounds import SpeechModel, SpeechOrder
from models.runtimes.torch.model import BadInput
from tests.models.runtimes.tasks.serving import load

NAMES = list(SOUNDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ensure_model(tmp_path_factory.mktemp("models"), "voice", make_voice).folder


@pytest.fixture(scope="module")
def voice(folder):
    return load(FormantVoice(), folder)


def say(voice, text, name="guard", speed=1.0):
    (sound,) = voice.predict([SpeechOrder(text, name, speed)])
    return sound.samples


def spectrum(voice, samples):
    power = np.abs(np.fft.rfft(samples)) ** 2
    return np.fft.rfftfreq(len(samples), 1 / voice.sample_rate), power / power.sum()


def test_it_is_a_speech_model(voice):
    assert isinstance(voice, SpeechModel)
    assert voice.voices == tuple(VOICES)
    assert voice.sample_rate == 24_000


@pytest.mark.parametrize(
    ("text", "sounds"),
    [
        ("see", "s iy"),
        ("a ship", "ae pause sh ih stop p!"),
        ("night", "n aa ih stop t!"),
        ("SHINE", "sh ih n"),
        ("don't", "hum t! aa n stop t!"),
        ("Čapek", "stop k! ae stop p! eh stop k!"),
        ("2", "stop t! uw"),
        ("no, 1", "n aa pause w ah n"),
    ],
)
def test_letters_become_sounds(voice, text, sounds):
    assert [NAMES[number] for number in voice.sounds_of(text)] == [*sounds.split(), "rest"]


@pytest.mark.parametrize("text", ["", "!?", "日本語", "   "])
def test_what_nobody_can_say_is_refused(voice, text):
    assert voice.sounds_of(text) == []
    with pytest.raises(BadInput, match="nothing in it that this voice can say"):
        say(voice, text)


def test_samples_are_sound_and_not_too_loud(voice):
    samples = say(voice, "the line is clear")
    assert samples.dtype == np.float32
    assert 1.0 < len(samples) / voice.sample_rate < 4.0
    assert 0.3 < np.abs(samples).max() <= 1.0
    assert np.isfinite(samples).all()


def test_it_says_the_same_in_the_same_way(voice):
    assert np.array_equal(say(voice, "steam"), say(voice, "steam"))


def test_twice_as_fast_takes_half_as_long(voice):
    normal, fast = len(say(voice, "the night train")), len(say(voice, "the night train", speed=2.0))
    assert fast == pytest.approx(normal / 2, rel=0.1)


def test_voices_have_their_own_pitch(voice):
    """All energy below one and a half times the pitch is that of the first harmonic."""

    def pitch_hz(name, expected_hz):
        frequencies, power = spectrum(voice, say(voice, "ee ee ee", name))
        low = (frequencies > expected_hz / 2) & (frequencies < expected_hz * 1.5)
        return (frequencies[low] * power[low]).sum() / power[low].sum()

    for name, (expected_hz, _, _) in VOICES.items():
        assert pitch_hz(name, expected_hz) == pytest.approx(expected_hz, rel=0.12), name


def test_vowels_have_the_resonances_that_were_measured(voice):
    """Most of both is below 450 Hz; "oo" has its second one at 870 Hz, "ee" has its second and third above 2200 Hz."""

    def shares(vowel):
        frequencies, power = spectrum(voice, say(voice, vowel))
        bands = ((0, 450), (450, 1600), (2800, 5000))
        return [power[(frequencies >= low) & (frequencies < high)].sum() for low, high in bands]

    ee, oo = shares("ee ee ee"), shares("oo oo oo")
    assert min(ee[0], oo[0]) > 0.5
    assert oo[1] > 2 * ee[1]
    assert ee[2] > 5 * oo[2]


def test_an_s_is_a_hiss_and_not_a_tone(voice):
    frequencies, power = spectrum(voice, say(voice, "sss"))
    assert 5000 < (frequencies * power).sum() < 8000
    assert power.max() < 0.02


def test_phrases_are_the_parts_of_a_stream(voice):
    order = SpeechOrder("Line clear. Signal down, all aboard!", "clerk", 1.0)
    parts = list(voice.stream(order))
    assert len(parts) == 3
    whole = say(voice, order.text, "clerk")
    assert np.array_equal(np.concatenate([part.samples for part in parts]), whole)
    assert voice.predict([order])[0].tokens == sum(part.tokens for part in parts)


@pytest.mark.parametrize("change", [{"sample_rate": None}, {"pauses": [1]}, {"spelling": 5}, {"voices": None}])
def test_what_is_wrong_with_the_folder_is_named(folder, tmp_path, change):
    for file in ("model.safetensors", "tokenizer.json"):
        (tmp_path / file).symlink_to(folder / file)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(EngineError, match="does not describe a voice"):
        load(FormantVoice(), tmp_path)
