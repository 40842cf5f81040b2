"""The realtime endpoint with a model that counts seconds: what is appended and committed comes back as text."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from models.runtimes.tasks.realtime_api import MOST_BUFFER_BYTES
from models.runtimes.tasks.transcriptions_api import build
from models.runtimes.torch.batch_queue import Limits
from models.runtimes.torch.batcher import Batcher
from tests.models.runtimes.tasks.test_transcriptions_api import Piecemeal

RATE = 8_000
KIND = "conversation.item.input_audio_transcription"
SECOND = np.full(RATE, 16_000, "<i2").tobytes()
SILENCE = bytes(2 * RATE)


@contextmanager
def session(model="counter", **options):
    listener = Piecemeal()
    with ThreadPoolExecutor(max_workers=1) as thread:
        batcher = Batcher(listener.predict, thread, Limits(), stream=listener.stream)
        client = TestClient(build(listener, batcher, ("counter",)))
        with client, client.websocket_connect(f"/v1/realtime?model={model}", **options) as socket:
            assert socket.receive_json()["type"] == "session.created"
            yield socket


def update(**sound):
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": sound}}}


def append(data):
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()}


def test_sound_that_is_committed_becomes_text_phrase_by_phrase():
    with session() as socket:
        socket.send_json(update(format={"type": "audio/pcm", "rate": RATE}, transcription={"language": "de"}))
        told = socket.receive_json()
        assert told["type"] == "session.updated"
        assert told["session"]["audio"]["input"]["format"]["rate"] == RATE
        for data in (SECOND[:999], SECOND[999:], SILENCE, SECOND):
            socket.send_json(append(data))
        socket.send_json({"type": "input_audio_buffer.commit"})
        events = [socket.receive_json() for _ in range(4)]
        assert [event["type"] for event in events] == [
            "input_audio_buffer.committed", f"{KIND}.delta", f"{KIND}.delta", f"{KIND}.completed",
        ]  # fmt: skip
        assert "".join(event["delta"] for event in events[1:3]) == events[3]["transcript"] == "one three"
        assert events[3]["usage"] == {"type": "duration", "seconds": 3}
        assert len({event["item_id"] for event in events}) == 1
        socket.send_json(append(SECOND))
        socket.send_json({"type": "input_audio_buffer.commit"})
        after = [socket.receive_json() for _ in range(3)]
        assert after[0]["previous_item_id"] == events[0]["item_id"]
        assert after[2]["transcript"] == "one"


def test_the_older_form_of_the_settings():
    with session() as socket:
        settings = {"input_audio_format": "pcm16", "input_audio_transcription": {"prompt": "x", "model": "counter"}}
        socket.send_json({"type": "transcription_session.update", "session": settings})
        assert socket.receive_json()["error"]["param"] == "type"
        socket.send_json({"type": "session.update", "session": settings})
        shown = socket.receive_json()["session"]["audio"]["input"]
        assert (shown["transcription"]["prompt"], shown["format"]["rate"]) == ("x", 24_000)


def test_what_was_appended_can_be_forgotten():
    with session() as socket:
        socket.send_json(append(SECOND))
        socket.send_json({"type": "input_audio_buffer.clear"})
        assert socket.receive_json()["type"] == "input_audio_buffer.cleared"
        socket.send_json({"type": "input_audio_buffer.commit"})
        assert socket.receive_json()["error"]["code"] == "input_audio_buffer_commit_empty"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("no json", "not JSON"),
        ("[1]", "must be a JSON object"),
        ("{}", "`type` must be session.update"),
        ('{"type": "response.create", "event_id": "e1"}', "`type` must be session.update"),
        ('{"type": "input_audio_buffer.append"}', "base64"),
        ('{"type": "input_audio_buffer.append", "audio": "?"}', "base64"),
        ('{"type": "session.update", "session": 5}', "`session` must be an object"),
        ('{"type": "session.update", "session": {"input_audio_format": "g711_ulaw"}}', "audio/pcm"),
        (
            '{"type": "session.update", "session": {"audio": {"input": {"transcription": {"language": "fr"}}}}}',
            "en or de",
        ),
    ],
)
def test_what_is_wrong_is_told_and_the_session_goes_on(message, said):
    with session() as socket:
        socket.send_text(message)
        told = socket.receive_json()
        assert told["type"] == "error"
        assert said in told["error"]["message"]
        assert told["error"]["event_id"] == ("e1" if "e1" in message else None)
        socket.send_bytes(b"\x00")
        assert "base64" in socket.receive_json()["error"]["message"]
        socket.send_json(update())
        assert socket.receive_json()["type"] == "session.updated"


def test_nobody_fills_the_memory():
    with session() as socket:
        for _ in range(5):
            socket.send_json(append(bytes(MOST_BUFFER_BYTES // 4)))
        assert "at most" in socket.receive_json()["error"]["message"]


def test_a_model_that_is_not_here_is_refused_before_it_is_opened():
    with pytest.raises(WebSocketDenialResponse) as refused, session("other"):
        pass
    assert refused.value.status_code == 404
    assert refused.value.json()["error"]["code"] == "model_not_found"
    with session(subprotocols=["realtime"]) as socket:
        assert socket.accepted_subprotocol == "realtime"
