"""OpenAI's realtime endpoint as far as transcription goes: a WebSocket that takes sound and gives text.

Events of the caller: ``session.update``, ``input_audio_buffer.append``, ``.commit`` and ``.clear``. What was appended
is transcribed when it is committed; nothing is transcribed by itself (``turn_detection`` is null).
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import math
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

import msgspec
import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from models.runtimes.tasks.transcripts import ListenOrder, Recording, Transcript
from models.runtimes.torch.api import ApiError, ServedNames, as_api_error

PATH = "/v1/realtime"
DEFAULT_RATE = 24_000  # OpenAI's audio/pcm: 16 bits, little-endian, one channel
RATES = (8_000, 16_000, 24_000, 48_000)
MOST_BUFFER_BYTES = 16 << 20

Transcribe = Callable[[ListenOrder], AsyncGenerator[Transcript, None]]


class RealtimeApi:
    def __init__(self, names: ServedNames, languages: Sequence[str], transcribe: Transcribe) -> None:
        self._names = names
        self._languages = tuple(languages)
        self._transcribe = transcribe

    async def talk(self, socket: WebSocket) -> None:
        try:
            model = self._names.check(socket.query_params.get("model"))
        except ApiError as wrong:
            await socket.send_denial_response(wrong.response())
            return
        offered = socket.scope.get("subprotocols", [])
        await socket.accept("realtime" if "realtime" in offered else None)
        session = Session(socket, model, self._languages, self._transcribe)
        with suppress(WebSocketDisconnect):
            await session.run()


class Session:
    """One caller's: what it has set, and the sound that it has sent so far."""

    def __init__(self, socket: WebSocket, model: str, languages: Sequence[str], transcribe: Transcribe) -> None:
        self._socket = socket
        self._model = model
        self._languages = languages
        self._transcribe = transcribe
        self._numbers = itertools.count(1)
        self._sound = bytearray()
        self._rate = DEFAULT_RATE
        self._language = self._prompt = ""
        self._last_item: str | None = None
        self._handlers = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.clear": self._clear,
            "input_audio_buffer.commit": self._commit,
        }

    async def run(self) -> None:
        """Raises WebSocketDisconnect when the caller leaves."""
        await self._say("session.created", session=self._shown())
        while True:
            given: Any = {}
            try:
                given = _object(await self._heard())
                kind = given.get("type")
                if kind not in self._handlers:
                    raise ApiError(400, f"`type` must be {' or '.join(self._handlers)}", "type")
                await self._handlers[kind](given)
            except WebSocketDisconnect:
                raise
            except Exception as problem:  # noqa: BLE001 - told to the caller, whose session goes on
                error = as_api_error(problem).body()["error"]
                name = given.get("event_id")
                await self._say("error", error=error | {"event_id": name if isinstance(name, str) else None})

    async def _heard(self) -> str:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        text = message.get("text")
        if not isinstance(text, str):
            raise ApiError(400, "messages are JSON texts, sound in them is base64")
        return text

    async def _update(self, given: Mapping[str, Any]) -> None:
        """Both forms of the API: settings below ``audio.input``, and those of before it."""
        session = _inner(given, "session")
        sound = _inner(_inner(session, "audio"), "input")
        listening = _inner(sound, "transcription") or _inner(session, "input_audio_transcription")
        form = sound.get("format", session.get("input_audio_format"))
        rate = form.get("rate", DEFAULT_RATE) if isinstance(form, dict) else DEFAULT_RATE
        kind = form.get("type") if isinstance(form, dict) else form
        if kind not in (None, "audio/pcm", "pcm16") or rate not in RATES:
            raise ApiError(400, f"the format must be audio/pcm with a rate of {', '.join(map(str, RATES))}", "format")
        language, prompt = listening.get("language") or "", listening.get("prompt") or ""
        if not isinstance(language, str) or (language and self._languages and language not in self._languages):
            raise ApiError(400, f"`language` must be {' or '.join(self._languages)}", "language")
        if not isinstance(prompt, str):
            raise ApiError(400, "`prompt` must be a text", "prompt")
        self._rate, self._language, self._prompt = rate, language, prompt
        await self._say("session.updated", session=self._shown())

    async def _append(self, given: Mapping[str, Any]) -> None:
        audio = given.get("audio")
        try:
            data = base64.b64decode(audio if isinstance(audio, str) else "?", validate=True)
        except (binascii.Error, ValueError):
            raise ApiError(400, "`audio` must be sound in base64", "audio") from None
        if len(self._sound) + len(data) > MOST_BUFFER_BYTES:
            raise ApiError(400, f"the buffer holds at most {MOST_BUFFER_BYTES} bytes; commit before", "audio")
        self._sound += data

    async def _clear(self, _given: Mapping[str, Any]) -> None:
        self._sound.clear()
        await self._say("input_audio_buffer.cleared")

    async def _commit(self, _given: Mapping[str, Any]) -> None:
        if len(self._sound) < 2:
            raise ApiError(400, "the buffer is empty: append sound before", code="input_audio_buffer_commit_empty")
        samples = np.frombuffer(bytes(self._sound[: len(self._sound) // 2 * 2]), "<i2").astype(np.float32) / np.float32(
            32768
        )
        self._sound.clear()
        recording = Recording(samples, self._rate)
        item, before = f"item_{next(self._numbers)}", self._last_item
        self._last_item = item
        await self._say("input_audio_buffer.committed", item_id=item, previous_item_id=before)
        kind, text = "conversation.item.input_audio_transcription", ""
        order = ListenOrder(recording, self._language, self._prompt)
        async with aclosing(self._transcribe(order)) as parts:
            async for part in parts:
                if part.text:
                    delta = f" {part.text}" if text else part.text
                    text += delta
                    await self._say(f"{kind}.delta", item_id=item, content_index=0, delta=delta)
        usage = {"type": "duration", "seconds": math.ceil(recording.duration_s)}
        await self._say(f"{kind}.completed", item_id=item, content_index=0, transcript=text, usage=usage)

    def _shown(self) -> dict[str, Any]:
        listening = {"model": self._model, "language": self._language, "prompt": self._prompt}
        sound = {"format": {"type": "audio/pcm", "rate": self._rate}, "transcription": listening}
        return {
            "type": "transcription",
            "object": "realtime.session",
            "audio": {"input": sound | {"turn_detection": None}},
        }

    async def _say(self, kind: str, **content: Any) -> None:
        event = {"type": kind, "event_id": f"event_{next(self._numbers)}", **content}
        await self._socket.send_text(msgspec.json.encode(event).decode())


def _object(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise ApiError(400, f"the message is not JSON: {problem}") from problem
    if not isinstance(given, dict):
        raise ApiError(400, "the message must be a JSON object")
    return given


def _inner(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = given.get(name)
    if value is not None and not isinstance(value, dict):
        raise ApiError(400, f"`{name}` must be an object", name)
    return value or {}
