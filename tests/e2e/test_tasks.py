"""Not only text: embeddings, reranking, classes, pictures, sound, free-form JSON; by the official SDK and by HTTP."""

from __future__ import annotations

import base64
import io
import json
import wave
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from tests.e2e.service import Service

# What each can do, and where: what is asked of the wrong one is refused by these words.
PLACES = {
    "minilm": "/v1/embeddings",
    "tiny-reranker": "/v1/rerank",
    "tiny-topics": "/classify",
    "tiny-painter": "/v1/images/generations",
    "tiny-voice": "/v1/audio/speech",
    "tiny-ear": "/v1/audio/transcriptions",
}
DOCUMENTS = [
    "Interest rates rose by half a point.",
    {"text": "The cat sleeps on the mat."},
    "A kitten naps in the kitchen.",
]


@pytest.fixture
def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=service.api_key, max_retries=0, timeout=60)


def post(service: Service, path: str, body: Any, **headers: str) -> httpx.Response:
    with service.http() as http:
        return http.post(path, json=body, headers=headers)


def told(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def pixels(b64_json: str | None) -> np.ndarray[Any, Any]:
    assert b64_json is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64_json))).convert("RGB"))


def test_the_catalog_says_what_each_model_can_do(service: Service) -> None:
    with service.http() as http:
        shown = {model["id"]: model["capabilities"] for model in http.get("/v1/models").json()["data"]}
    assert shown["tiny-llama"] == ["generate", "tokenize"]
    assert shown["tiny-painter"] == ["image", "predict"]
    assert all(shown[model] for model in PLACES)


def test_pictures_by_the_sdk(client: openai.OpenAI) -> None:
    ask = {"model": "tiny-painter", "size": "128x64", "n": 2, "response_format": "b64_json", "extra_body": {"seed": 7}}
    answer = client.images.generate(prompt="a red rose", **ask)  # type: ignore[call-overload]
    one, other = (pixels(made.b64_json) for made in answer.data)
    assert one.shape == other.shape == (64, 128, 3)
    assert not np.array_equal(one, other), "two seeds"
    red, green, blue = one.mean(axis=(0, 1))
    assert red > max(green, blue) + 30
    assert answer.usage.input_tokens == 6
    again = client.images.generate(prompt="a red rose", **ask)  # type: ignore[call-overload]
    assert [made.b64_json for made in again.data] == [made.b64_json for made in answer.data]


def test_pictures_come_coarser_first_when_they_are_streamed(client: openai.OpenAI) -> None:
    stream = client.images.generate(
        model="tiny-painter",
        prompt="an ocean at sunset",
        size="256x256",
        stream=True,
        partial_images=2,
        extra_body={"seed": 1},
    )
    events = list(stream)
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    first, second, last = (pixels(event.b64_json).astype(int) for event in events)
    assert np.abs(first - last).mean() > np.abs(second - last).mean() > 0


def test_a_large_picture_comes_through_whole(client: openai.OpenAI) -> None:
    answer = client.images.generate(model="painter", prompt="smoke over steel and coal", size="1024x1024")
    assert answer.data is not None
    assert pixels(answer.data[0].b64_json).shape == (1024, 1024, 3)


def test_sound_by_the_sdk(client: openai.OpenAI) -> None:
    answer = client.audio.speech.create(model="tiny-voice", voice="guard", input="All aboard!", response_format="wav")
    with wave.open(io.BytesIO(answer.content)) as file:
        assert (file.getframerate(), file.getnchannels()) == (24_000, 1)
        whole = file.readframes(file.getnframes())
    samples = np.frombuffer(whole, "<i2")
    assert 0.5 < len(samples) / 24_000 < 3
    assert np.abs(samples).max() > 3000
    ask = {"model": "voice", "voice": "guard", "input": "All aboard!", "response_format": "pcm"}
    with client.audio.speech.with_streaming_response.create(**ask) as stream:  # type: ignore[arg-type]
        assert stream.headers["content-type"] == "audio/pcm"
        assert b"".join(stream.iter_bytes()) == whole
    with pytest.raises(openai.BadRequestError, match="guard or driver or clerk"):
        client.audio.speech.create(model="tiny-voice", voice="alloy", input="All aboard!")


def test_what_one_model_says_another_one_writes_down(service: Service, client: openai.OpenAI) -> None:
    text = "Line clear. The night train leaves the station at nine."
    said = client.audio.speech.create(model="tiny-voice", voice="driver", input=text, response_format="wav").content
    heard = client.audio.transcriptions.create(model="tiny-ear", file=("said.wav", said))
    assert heard.text == "line clear the night train leaves the station at nine"
    verbose = client.audio.transcriptions.create(
        model="ear", file=("said.wav", said), response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert (verbose.language, len(verbose.segments or ()), len(verbose.words or ())) == ("en", 2, 10)
    assert 2 < float(verbose.duration) < 6
    stream = client.audio.transcriptions.create(model="tiny-ear", file=("said.wav", said), stream=True)
    events = list(stream)
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert "".join(event.delta for event in events[:2]) == heard.text  # type: ignore[union-attr]
    with service.http() as http:
        answer = http.post("/v1/audio/translations", data={"model": "tiny-ear"}, files={"file": ("said.wav", said)})
    assert told(answer)["text"] == heard.text, "it was English already"
    with pytest.raises(openai.BadRequestError, match="WAV"):
        client.audio.transcriptions.create(model="tiny-ear", file=("said.mp3", b"ID3" + bytes(1000)))
    with pytest.raises(openai.BadRequestError, match="does not support /v1/audio/transcriptions"):
        client.audio.transcriptions.create(model="tiny-voice", file=("said.wav", said))


@pytest.mark.anyio
async def test_speech_is_written_down_as_it_is_heard(service: Service, client: openai.OpenAI) -> None:
    text = "The driver reads the signal before the bridge."
    ask = {"model": "tiny-voice", "voice": "guard", "input": text, "response_format": "pcm"}
    said = client.audio.speech.create(**ask).content  # type: ignore[arg-type]
    base = f"{service.url.replace('http', 'ws')}/v1"
    caller = openai.AsyncOpenAI(base_url=f"{service.url}/v1", websocket_base_url=base, api_key=service.api_key)
    async with caller.realtime.connect(model="tiny-ear") as socket:
        for start in range(0, len(said), 48_000):
            await socket.input_audio_buffer.append(audio=base64.b64encode(said[start : start + 48_000]).decode())
        await socket.input_audio_buffer.commit()
        async for event in socket:
            if event.type == "conversation.item.input_audio_transcription.completed":
                assert event.transcript == "the driver reads the signal before the bridge"
                break
            assert event.type != "error", event
    with service.http() as http:
        assert 'endpoint="realtime",model="tiny-ear"' in http.get("/metrics").text


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_documents_are_ranked(service: Service, path: str) -> None:
    ask = {"model": "tiny-reranker", "query": "where does the cat sleep?", "documents": DOCUMENTS, "top_n": 2}
    answer = told(post(service, path, ask))
    assert [found["index"] for found in answer["results"]] == [1, 2]
    assert answer["results"][0]["document"]["text"] == "The cat sleeps on the mat."
    assert 1 >= answer["results"][0]["relevance_score"] > answer["results"][1]["relevance_score"] > 0
    assert answer["usage"]["total_tokens"] > 20


def test_pairs_are_scored(service: Service) -> None:
    answer = told(post(service, "/v1/score", {"model": "reranker", "text_1": "cat", "text_2": ["a cat", "a rate"]}))
    assert answer["data"][0]["score"] > 0.9 > 0.1 > answer["data"][1]["score"]


@pytest.mark.parametrize("path", ["/classify", "/v1/classify"])
def test_texts_are_classified(service: Service, path: str) -> None:
    texts = ["Melt the butter and add two eggs.", "A freight train waits at the signal."]
    answer = told(post(service, path, {"model": "tiny-topics", "input": texts}))
    assert [found["label"] for found in answer["data"]] == ["cooking", "railways"]
    assert all(sum(found["probs"]) == pytest.approx(1, abs=1e-3) for found in answer["data"])
    assert answer["data"][0]["num_classes"] == 4


@pytest.mark.parametrize(
    ("model", "inputs", "holds"),
    [
        ("minilm", ["a", "b"], lambda outputs: [len(vector) for vector in outputs] == [384, 384]),
        ("tiny-reranker", [{"query": "cat", "document": "a cat"}], lambda outputs: outputs[0]["score"] > 0.9),
        ("tiny-topics", ["bake the bread"], lambda outputs: outputs[0]["label"] == "cooking"),
        ("tiny-painter", ["snow", {"prompt": "coal", "size": "64x64"}], lambda outputs: outputs[1]["size"] == "64x64"),
        ("tiny-voice", ["all clear"], lambda outputs: outputs[0]["sample_rate"] == 24_000),
    ],
)
def test_every_one_takes_free_form_json(service: Service, model: str, inputs: list[Any], holds: Any) -> None:
    answer = told(post(service, f"/v1/predict/{model}", {"inputs": inputs}))
    assert (answer["model"], len(answer["outputs"])) == (model, len(inputs))
    assert holds(answer["outputs"])


def test_free_form_json_can_be_streamed(service: Service) -> None:
    body = {"inputs": ["Line clear. All aboard!"], "stream": True}
    with service.http() as http, http.stream("POST", "/v1/predict/voice", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    assert len([json.loads(line)["output"]["pcm_b64"] for line in lines[:-1]]) == 2, "phrase by phrase"


@pytest.mark.parametrize("model", PLACES)
def test_who_cannot_chat_says_at_once_what_it_can_do(service: Service, model: str) -> None:
    service.order(model, "stop")
    answer = service.chat(model)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_endpoint", "model")
    assert PLACES[model] in error["message"]
    assert f"/v1/predict/{model}" in error["message"]
    assert service.replicas(model) == [], "it was not started for this"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/images/generations", {"model": "tiny-painter", "prompt": "x", "size": "9999x9999"}, "size"),
        ("/v1/audio/speech", {"model": "tiny-voice", "input": "x", "speed": 9}, "speed"),
        ("/v1/rerank", {"model": "tiny-reranker", "query": "x", "documents": []}, "documents"),
        ("/v1/rerank", {"model": "tiny-reranker", "query": "x", "documents": ["a", 5]}, "documents"),
        ("/classify", {"model": "tiny-topics", "input": [""]}, "input"),
        ("/v1/predict/tiny-painter", {"inputs": [{"prompt": ""}]}, "prompt"),
        ("/v1/predict/tiny-topics", {"inputs": "x", "stream": True}, "stream"),
        ("/v1/audio/speech", {"model": "tiny-voice", "input": "!!!"}, "input"),
    ],
)
def test_a_wrong_field_is_named_to_the_caller(service: Service, path: str, body: Any, param: str) -> None:
    answer = post(service, path, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param), error


def test_a_model_that_has_slept_answers_as_before(service: Service) -> None:
    ask = {"model": "tiny-painter", "prompt": "a green forest", "size": "64x64", "seed": 3}
    before = told(post(service, "/v1/images/generations", ask))["data"]
    (replica,) = service.replicas("tiny-painter")
    service.order("tiny-painter", "sleep")
    assert told(post(service, "/v1/images/generations", ask))["data"] == before
    (awake,) = service.replicas("tiny-painter")
    assert (awake["state"], awake["pid"]) == ("ready", replica["pid"]), "woken, not started again"


def test_requests_are_counted_by_their_endpoints(service: Service) -> None:
    told(post(service, "/v1/predict/topics", "bake bread"))
    with service.http() as http:
        text = http.get("/metrics").text
    assert 'endpoint="predict",model="tiny-topics"' in text
    assert "topics/" not in text
