"""The OpenAI speech endpoint: text to sound, as a file, as raw samples, or in pieces while it is made."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from models.runtimes.protocol import Asgi
from models.runtimes.tasks.events import event, events_response, first_of
from models.runtimes.tasks.fields import choice_of, number_of, text_of
from models.runtimes.tasks.predict_api import predict_route
from models.runtimes.tasks.sounds import Sound, SpeechModel, SpeechOrder
from models.runtimes.torch.api import ApiError, ServedNames, application, read_object, while_connected
from models.runtimes.torch.batcher import Batcher

LONGEST_TEXT = 4096  # characters; OpenAI's own limit
FORMATS = ("wav", "pcm")
SLOWEST, FASTEST = 0.25, 4.0  # OpenAI's own limits
UNKNOWN_BYTES = 0xFFFFFFFF  # in the head of a WAV file that is sent before its end is known


def build(model: SpeechModel, batcher: Batcher, served_names: Sequence[str]) -> Asgi:
    """The application of one speaking model."""
    names = ServedNames(served_names)
    api = SpeechApi(model, batcher, names)
    routes = [
        Route("/v1/audio/speech", api.speech, methods=["POST"]),
        predict_route(batcher, names, api.read_input, api.shown),
    ]
    return application(names, routes)


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """A checked request body. ``in_pieces``: the sound goes out while it is made."""

    order: SpeechOrder
    format: str
    events: bool
    in_pieces: bool

    @classmethod
    def read(cls, fields: Mapping[str, Any], model: SpeechModel) -> SpeechRequest:
        """Raises ApiError naming the field."""
        stream = choice_of(fields, "stream_format", ("audio", "sse"), "")
        kind = choice_of(fields, "response_format", FORMATS, "wav")
        # A WAV file that nobody wants piecewise says how long it is.
        return cls(read_order(fields, "input", model), kind, stream == "sse", stream == "audio" or kind == "pcm")


def read_order(fields: Mapping[str, Any], text_field: str, model: SpeechModel) -> SpeechOrder:
    """Raises ApiError naming the field."""
    text = text_of(fields, text_field, LONGEST_TEXT)
    voice = choice_of(fields, "voice", model.voices, model.voices[0])
    return SpeechOrder(text, voice, number_of(fields, "speed", 1.0, SLOWEST, FASTEST))


class SpeechApi:
    def __init__(self, model: SpeechModel, batcher: Batcher, names: ServedNames) -> None:
        self._model = model
        self._batcher = batcher
        self._names = names

    async def speech(self, request: Request) -> Response:
        fields = await read_object(request)
        self._names.check(fields.get("model"))
        asked = SpeechRequest.read(fields, self._model)
        if asked.events:
            return await events_response(request, self._events(asked))
        media = "audio/wav" if asked.format == "wav" else "audio/pcm"
        if asked.in_pieces:
            parts = self._parts(asked)
            first = await first_of(request, parts)
            return StreamingResponse(_joined(first, parts), media_type=media)
        (sound,) = await while_connected(request, self._batcher.outputs([asked.order]))
        data = pcm(sound)
        return Response(wav_head(self._model.sample_rate, len(data)) + data, media_type=media)

    async def _parts(self, asked: SpeechRequest) -> AsyncGenerator[bytes, None]:
        """What is sent before the end is known, each part as soon as it is there."""
        head = wav_head(self._model.sample_rate, None) if asked.format == "wav" else b""
        async with aclosing(self._sounds(asked.order)) as sounds:
            async for sound in sounds:
                yield head + pcm(sound)
                head = b""

    async def _events(self, asked: SpeechRequest) -> AsyncGenerator[bytes, None]:
        tokens, samples = 0, 0
        head = wav_head(self._model.sample_rate, None) if asked.format == "wav" else b""
        async with aclosing(self._sounds(asked.order)) as sounds:
            async for sound in sounds:
                tokens, samples = tokens + sound.tokens, samples + len(sound.samples)
                audio = base64.b64encode(head + pcm(sound)).decode()
                head = b""
                yield event({"type": "speech.audio.delta", "audio": audio}, "speech.audio.delta")
        usage = {"input_tokens": tokens, "output_tokens": samples, "total_tokens": tokens + samples}
        yield event({"type": "speech.audio.done", "usage": usage}, "speech.audio.done")

    async def _sounds(self, order: SpeechOrder) -> AsyncGenerator[Sound, None]:
        if self._batcher.streams:
            async with aclosing(self._batcher.pieces(order)) as pieces:
                async for piece in pieces:
                    yield piece
        else:
            yield (await self._batcher.outputs([order]))[0]

    def read_input(self, given: Any, at: str) -> SpeechOrder:
        """A text alone, or an object with ``text``, ``voice`` and ``speed``. Raises ApiError."""
        if isinstance(given, str):
            given = {"text": given}
        if not isinstance(given, dict):
            raise ApiError(400, f'{at} must be a text, or {{"text": ..., "voice": ..., "speed": ...}}', "inputs")
        return read_order(given, "text", self._model)

    def shown(self, sound: Sound) -> dict[str, Any]:
        return {"pcm_b64": base64.b64encode(pcm(sound)).decode(), "sample_rate": self._model.sample_rate}


async def _joined(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for part in rest:
            yield part


def pcm(sound: Sound) -> bytes:
    """Signed 16-bit little-endian samples."""
    return (np.clip(sound.samples, -1, 1) * 32767).astype("<i2").tobytes()


def wav_head(sample_rate: int, data_bytes: int | None) -> bytes:
    """Of 16-bit samples in one channel. ``data_bytes`` None: as encoders write it that stream."""

    def four(value: int) -> bytes:
        return min(value, UNKNOWN_BYTES).to_bytes(4, "little")

    size = UNKNOWN_BYTES if data_bytes is None else data_bytes
    layout = four(16) + (1).to_bytes(2, "little") * 2 + four(sample_rate) + four(2 * sample_rate)
    layout += (2).to_bytes(2, "little") + (16).to_bytes(2, "little")
    return b"RIFF" + four(size + 36) + b"WAVEfmt " + layout + b"data" + four(size)
