"""The demo's ear understands the demo's voice."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.demo.ear import EXAMPLE, make_ear
from models.demo.voice import make_voice
from models.runtimes.protocol import EngineError
from models.runtimes.tasks.formant_voice import FormantVoice
from models.runtimes.tasks.lexicon_ear import PHRASE_GAP_FRAMES, LexiconEar, phrases
from models.runtimes.tasks.sounds import SpeechOrder
from models.runtimes.tasks.transcripts import ListeningModel, ListenOrder, Recording
from tests.models.runtimes.tasks.serving import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ear")
    make_ear(folder)
    return folder


@pytest.fixture(scope="module")
def ear(folder):
    return load(LexiconEar(), folder)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voice")
    make_voice(folder)
    return load(FormantVoice(), folder)


def spoken(voice, text, who="guard", speed=1.0):
    (sound,) = voice.predict([SpeechOrder(text, who, speed)])
    return ListenOrder(Recording(sound.samples, voice.sample_rate))


@pytest.mark.parametrize("who", ["guard", "driver"])
@pytest.mark.parametrize(
    "text", ["all aboard", "the night train leaves the station at nine", "boil the water and add the salt"]
)
def test_it_writes_down_what_was_said(ear, voice, text, who):
    (transcript,) = ear.predict([spoken(voice, text, who)])
    assert transcript.text == text


def test_words_and_phrases_have_their_times(ear, voice):
    order = spoken(voice, "Line clear. Welcome to the station.")
    (transcript,) = ear.predict([order])
    assert [segment.text for segment in transcript.segments] == ["line clear", "welcome to the station"]
    times = [word.start_s for segment in transcript.segments for word in segment.words]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] < order.recording.duration_s
    assert all(segment.log_likelihood < 0 for segment in transcript.segments)
    assert [part.text for part in ear.stream(order)] == [segment.text for segment in transcript.segments]


def test_how_loud_and_at_which_rate_it_was_recorded_matters_little(ear, voice):
    order = spoken(voice, "the program reads a number from the file")
    samples = order.recording.samples
    quiet = ListenOrder(Recording(0.05 * samples, 24_000))
    places = np.arange(0, len(samples), 1.5)
    slower = ListenOrder(Recording(np.interp(places, np.arange(len(samples)), samples).astype(np.float32), 16_000))
    assert [transcript.text for transcript in ear.predict([quiet, slower])] == [
        "the program reads a number from the file"
    ] * 2


def test_silence_and_a_click_are_no_words(ear):
    for samples in (np.zeros(24_000, np.float32), np.eye(1, 24_000, 500, dtype=np.float32)[0]):
        (transcript,) = ear.predict([ListenOrder(Recording(samples, 24_000))])
        assert len(transcript.text.split()) <= 1


def test_it_is_a_listening_model():
    assert isinstance(LexiconEar(), ListeningModel)


def test_its_canary_is_a_sentence(ear):
    assert ear.predict([ear.example()])[0].text == EXAMPLE


def test_phrases_are_cut_in_pauses_and_where_they_get_too_long():
    def cuts(*runs):
        loudness = np.concatenate([np.full(length, level, np.float32) for level, length in runs])
        return [(int(start), int(end)) for start, end in phrases(loudness)]

    assert cuts((-9.2, 100)) == []
    assert cuts((-9.2, 20), (-3, 30), (-9.2, 10), (-3, 30)) == [(12, 90)]
    first, second = cuts((-3, 30), (-9.2, 50), (-3, 30))
    assert first == (0, 29 + PHRASE_GAP_FRAMES)
    assert second == (72, 110)
    long = cuts((-3, 7000))
    assert [end - start <= 3010 for start, end in long] == [True] * 3


@pytest.mark.parametrize("change", [{"silence": "none"}, {"costs": [1.0]}, {"sounds": 3}, {"example_rate": None}])
def test_a_config_that_describes_no_ear_is_refused(folder, tmp_path, change):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(EngineError, match=r"config\.json does not describe an ear"):
        load(LexiconEar(), tmp_path)


def test_an_ear_without_words_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(EngineError, match=r"vocab\.txt cannot be read"):
        load(LexiconEar(), tmp_path)
