"""The speech endpoint with a model that hums one sample for each letter."""

from __future__ import annotations

import base64
import io
import wave

import numpy as np
import pytest

from models.runtimes.tasks.sounds import Sound, SpeechModel
from models.runtimes.tasks.speech_api import build, pcm, wav_head
from models.runtimes.torch.model import BadInput
from tests.models.runtimes.tasks.serving import error_of, events, served

pytestmark = pytest.mark.anyio

LEVELS = {"high": 0.5, "low": 0.25}


class Hum:
    task = "speech"
    sample_rate = 8000
    voices = ("high", "low")

    def load(self, device, weights):
        pass

    def predict(self, batch):
        return [self._hum(order, order.text) for order in batch]

    def _hum(self, order, text):
        if not text.strip("!"):
            raise BadInput("`input` is silent")
        samples = np.full(int(len(text) / order.speed), LEVELS[order.voice], np.float32)
        return Sound(samples, len(text.split()))


class Phrases(Hum):
    def stream(self, item):
        for phrase in item.text.split("."):
            yield self._hum(item, phrase)


@pytest.fixture
def client():
    with served(build, Phrases(), "hum") as client:
        yield client


async def speak(client, text="one two", **fields):
    return await client.post("/v1/audio/speech", json={"model": "hum", "input": text, **fields})


def test_it_is_a_speech_model():
    assert isinstance(Hum(), SpeechModel)


async def test_a_text_becomes_a_wav_file_that_says_how_long_it_is(client):
    answer = await speak(client, voice="low", response_format="wav")
    assert answer.headers["content-type"] == "audio/wav"
    assert int(answer.headers["content-length"]) == len(answer.content)
    with wave.open(io.BytesIO(answer.content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()) == (8000, 1, 2, 7)
        samples = np.frombuffer(file.readframes(7), "<i2")
    assert set(samples) == {int(0.25 * 32767)}


async def test_raw_samples_and_speed(client):
    answer = await speak(client, response_format="pcm", speed=0.5)
    assert answer.headers["content-type"] == "audio/pcm"
    assert len(answer.content) == 2 * 2 * 7


async def test_the_first_voice_speaks_when_none_is_named(client):
    assert (await speak(client, response_format="pcm")).content[:2] == int(0.5 * 32767).to_bytes(2, "little")


async def test_it_can_be_heard_while_it_is_made(client):
    answer = await speak(client, "one.two three", stream_format="audio")
    assert answer.headers["content-type"] == "audio/wav"
    assert "content-length" not in answer.headers
    assert answer.content[:4] == b"RIFF"
    assert len(answer.content) == 44 + 2 * 12


async def test_events(client):
    told = events(await speak(client, "one.two three", stream_format="sse", response_format="pcm"))
    assert [name for name, _ in told] == ["speech.audio.delta", "speech.audio.delta", "speech.audio.done"]
    assert [len(base64.b64decode(content["audio"])) for _, content in told[:2]] == [6, 18]
    assert told[2][1]["usage"] == {"input_tokens": 3, "output_tokens": 12, "total_tokens": 15}


@pytest.mark.parametrize("fields", [{"response_format": "pcm"}, {"stream_format": "sse"}, {"stream_format": "audio"}])
async def test_a_model_that_does_not_stream_gives_all_in_one_piece(fields):
    with served(build, Hum(), "hum") as client:
        answer = await speak(client, **fields)
    assert answer.status_code == 200
    assert answer.content


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"input": None}, "input", "missing"),
        ({"input": ""}, "input", "not empty"),
        ({"input": 5}, "input", "must be a text"),
        ({"input": "x" * 4097}, "input", "at most 4096"),
        ({"voice": "alloy"}, "voice", "high or low"),
        ({"voice": {"id": "high"}}, "voice", "high or low"),
        ({"response_format": "mp3"}, "response_format", "wav or pcm"),
        ({"stream_format": "chunks"}, "stream_format", "audio or sse"),
        ({"speed": 0.2}, "speed", "from 0.25 to 4"),
        ({"speed": 4.1}, "speed", "from 0.25 to 4"),
        ({"speed": "fast"}, "speed", "a number"),
        ({"speed": True}, "speed", "a number"),
        ({"model": None}, "model", "must be a string"),
    ],
)
async def test_a_wrong_field_is_named(client, fields, param, said):
    answer = await client.post("/v1/audio/speech", json={"model": "hum", "input": "one", **fields})
    status, named, message = error_of(answer)
    assert (status, named) == (400, param)
    assert said in message


@pytest.mark.parametrize("fields", [{}, {"response_format": "pcm"}, {"stream_format": "sse"}])
async def test_what_the_model_finds_wrong_is_told(client, fields):
    assert error_of(await speak(client, "!", **fields)) == (400, None, "`input` is silent")


async def test_it_predicts_as_well(client):
    answer = (await client.post("/v1/predict/hum", json={"inputs": ["one", {"text": "four", "voice": "low"}]})).json()
    assert [len(base64.b64decode(shown["pcm_b64"])) for shown in answer["outputs"]] == [6, 8]
    assert answer["outputs"][0]["sample_rate"] == 8000
    assert error_of(await client.post("/v1/predict/hum", json={"inputs": [1]}))[:2] == (400, "inputs")


def test_what_is_too_loud_is_cut():
    assert np.frombuffer(pcm(Sound(np.array([2, -2, 0], np.float32), 1)), "<i2").tolist() == [32767, -32767, 0]


def test_the_head_of_an_endless_file_has_the_length_of_any_head():
    assert len(wav_head(24000, None)) == len(wav_head(24000, 10)) == 44
