"""The transcription endpoints with a model that counts: it hears a word in each second that is not silent."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from models.runtimes.tasks.transcriptions_api import Held, build
from models.runtimes.tasks.transcripts import ListeningModel, ListenOrder, Recording, Segment, SpokenWord, Transcript
from models.runtimes.torch.api import ApiError
from models.runtimes.torch.model import BadInput
from tests.models.runtimes.tasks.serving import error_of, events, served
from tests.models.runtimes.tasks.wav import wav

pytestmark = pytest.mark.anyio

NUMBERS = ("one", "two", "three", "four")
RATE = 8_000


class Counter:
    task = "transcribe"
    languages = ("en", "de")

    def load(self, device, weights):
        pass

    def predict(self, batch):
        return [Transcript(tuple(self._segments(order)), order.language or "en") for order in batch]

    def _segments(self, order):
        samples = order.recording.samples
        if samples.max() > 0.99:
            raise BadInput("`file` is too loud")
        for second, start in enumerate(range(0, len(samples), order.recording.sample_rate)):
            if samples[start : start + order.recording.sample_rate].any():
                text = f"{order.prompt}{NUMBERS[second]}".upper() if order.translate else order.prompt + NUMBERS[second]
                yield Segment((SpokenWord(text, second + 0.25, second + 0.75),), second, second + 1, -0.5)


class Piecemeal(Counter):
    def stream(self, item):
        for segment in self._segments(item):
            yield Transcript((segment,), "en")


SPOKEN = wav(np.concatenate([np.full(RATE, 0.5), np.zeros(RATE), np.full(RATE // 2, 0.5)]), RATE)


@pytest.fixture
def client():
    with served(build, Piecemeal(), "counter") as client:
        yield client


async def listen(client, data=SPOKEN, where="transcriptions", **fields):
    form = {"model": "counter"} | fields
    return await client.post(f"/v1/audio/{where}", data=form, files={"file": ("said.wav", data, "audio/wav")})


def test_it_is_a_listening_model():
    assert isinstance(Counter(), ListeningModel)


async def test_sound_becomes_text(client):
    answer = await listen(client)
    assert answer.json() == {"text": "one three", "usage": {"type": "duration", "seconds": 3}}
    assert (await listen(client, response_format="text")).text == "one three\n"


async def test_the_prompt_and_the_translation_reach_the_model(client):
    assert (await listen(client, prompt="x")).json()["text"] == "xone xthree"
    assert (await listen(client, where="translations")).json()["text"] == "ONE THREE"


async def test_all_of_it(client):
    asked = {"response_format": "verbose_json", "language": "DE", "timestamp_granularities[]": ["word", "segment"]}
    told = (await listen(client, **asked)).json()
    assert (told["task"], told["language"], told["duration"]) == ("transcribe", "de", 2.5)
    assert told["segments"][1] == {"id": 1, "start": 2, "end": 3, "text": "three", "avg_logprob": -0.5}
    assert told["words"][0] == {"word": "one", "start": 0.25, "end": 0.75}
    assert "words" not in (await listen(client, response_format="verbose_json")).json()


async def test_subtitles(client):
    answer = await listen(client, response_format="srt")
    assert answer.text.startswith("1\n00:00:00,000 --> 00:00:01,000\none\n")
    answer = await listen(client, response_format="vtt")
    assert answer.headers["content-type"].startswith("text/vtt")
    assert "00:00:02.000 --> 00:00:03.000\nthree" in answer.text


async def test_phrase_by_phrase(client):
    told = events(await listen(client, stream="true"))
    assert [name for name, _ in told] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert "".join(content["delta"] for _, content in told[:2]) == told[2][1]["text"] == "one three"
    assert told[2][1]["usage"] == {"type": "duration", "seconds": 3}


async def test_a_model_that_does_not_stream_tells_all_in_one_piece():
    with served(build, Counter(), "counter") as client:
        told = events(await listen(client, stream="true"))
    assert [content.get("delta") for _, content in told] == ["one three", None]


async def test_silence_is_an_empty_text(client):
    silence = wav(np.zeros(100), RATE)
    assert (await listen(client, silence)).json()["text"] == ""
    assert [name for name, _ in events(await listen(client, silence, stream="1"))] == ["transcript.text.done"]


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"response_format": "mp3"}, "response_format", "json or text"),
        ({"language": "fr"}, "language", "en or de"),
        ({"stream": "maybe"}, "stream", "true or false"),
        ({"stream": "true", "response_format": "srt"}, "response_format", "needs"),
        ({"timestamp_granularities[]": "letter"}, "timestamp_granularities", "word or segment"),
        ({"data": b"RIFF nonsense"}, "file", "WAV"),
    ],
)
async def test_a_wrong_field_is_named(client, fields, param, said):
    status, named, message = error_of(await listen(client, **fields))
    assert (status, named) == (400, param)
    assert said in message


async def test_a_form_without_a_file_or_a_model_and_what_is_no_form(client):
    form = {"model": (None, "counter")}
    assert error_of(await client.post("/v1/audio/transcriptions", files=form))[:2] == (400, "file")
    form = {"model": (None, "counter"), "file": (None, "text")}
    assert error_of(await client.post("/v1/audio/transcriptions", files=form))[:2] == (400, "file")
    assert error_of(await listen(client, model="other"))[:2] == (404, "model")
    answer = await client.post(
        "/v1/audio/transcriptions", content=b"--x", headers={"content-type": "multipart/form-data; boundary=y"}
    )
    assert error_of(answer)[0] == 400


@pytest.mark.parametrize("fields", [{}, {"stream": "true"}])
async def test_what_the_model_finds_wrong_is_told(client, fields):
    loud = wav(np.ones(100), RATE)
    assert error_of(await listen(client, loud, **fields)) == (400, None, "`file` is too loud")


async def test_it_predicts_as_well(client):
    coded = base64.b64encode(SPOKEN).decode()
    answer = (await client.post("/v1/predict/counter", json={"inputs": [coded, {"wav_b64": coded}]})).json()
    assert [shown["text"] for shown in answer["outputs"]] == ["one three"] * 2
    for wrong in (5, {"wav": coded}, "no base64!"):
        assert error_of(await client.post("/v1/predict/counter", json={"inputs": [wrong]}))[:2] == (400, "inputs")


def recorded(megabytes):
    return ListenOrder(Recording(np.zeros(megabytes << 18, np.float32), RATE))


def test_sound_that_waits_is_bounded_but_one_recording_may_always_come():
    held = Held()
    with held.room(recorded(40)):
        with pytest.raises(ApiError, match="too much to listen to") as refused, held.room(recorded(1)):
            pass
        assert (refused.value.status, refused.value.retry_after_s) == (503, 1)
    with held.room(recorded(16)), held.room(recorded(16)), pytest.raises(ApiError), held.room(recorded(1)):
        pass
    with held.room(recorded(32)):
        pass
