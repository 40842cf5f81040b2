"""The OpenAI transcription and translation endpoints: sound to text, whole, as subtitles, or phrase by phrase."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from models.runtimes.protocol import Asgi
from models.runtimes.tasks.events import event, events_response
from models.runtimes.tasks.predict_api import predict_route
from models.runtimes.tasks.realtime_api import PATH, RealtimeApi
from models.runtimes.tasks.recordings import read_recording
from models.runtimes.tasks.subtitles import srt, vtt
from models.runtimes.tasks.transcripts import ListeningModel, ListenOrder, Recording, Segment, Transcript
from models.runtimes.torch.api import ApiError, ServedNames, application, json_response, while_connected
from models.runtimes.torch.batcher import Batcher

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
GRANULARITIES = ("word", "segment")
MOST_HELD_BYTES = 32 << 20
_FIELDS, _PART_BYTES = 64, 1 << 20


def build(model: ListeningModel, batcher: Batcher, served_names: Sequence[str]) -> Asgi:
    """The application of one listening model."""
    names = ServedNames(served_names)
    api = TranscriptionsApi(model, batcher, names)
    routes = [
        Route("/v1/audio/transcriptions", api.transcriptions, methods=["POST"]),
        Route("/v1/audio/translations", api.translations, methods=["POST"]),
        WebSocketRoute(PATH, RealtimeApi(names, model.languages, api.transcripts).talk),
        predict_route(batcher, names, api.read_input, api.shown),
    ]
    return application(names, routes)


@dataclass(frozen=True, slots=True)
class ListenRequest:
    """A checked form. ``words``: their times are wanted besides those of the segments."""

    order: ListenOrder
    format: str
    words: bool
    stream: bool

    @classmethod
    async def read(cls, form: FormData, languages: Sequence[str], translate: bool) -> ListenRequest:
        """Raises ApiError naming the field."""
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ApiError(400, "`file` is missing: send the recording as a file of the form", "file")
        language, kind = _text(form, "language").lower(), _text(form, "response_format") or "json"
        if kind not in FORMATS:
            raise ApiError(400, f"`response_format` must be {' or '.join(FORMATS)}", "response_format")
        if language and languages and language not in languages:
            raise ApiError(400, f"`language` must be {' or '.join(languages)}", "language")
        wanted = [str(value) for value in form.getlist("timestamp_granularities[]")]
        if set(wanted) - set(GRANULARITIES):
            message = f"`timestamp_granularities` must be {' or '.join(GRANULARITIES)}"
            raise ApiError(400, message, "timestamp_granularities")
        stream = _flag(form, "stream")
        if stream and kind != "json":
            raise ApiError(400, "`stream` needs the `response_format` json", "response_format")
        order = ListenOrder(read_recording(await file.read()), language, _text(form, "prompt"), translate)
        return cls(order, kind, "word" in wanted, stream)


class Held:
    """How much sound is being listened to, or waits for it: it lies in memory, which an engine has little of."""

    def __init__(self) -> None:
        self._bytes = 0

    @contextmanager
    def room(self, order: ListenOrder) -> Iterator[None]:
        """Raises ApiError (503) where there is none; one recording may always come."""
        size_bytes = order.recording.samples.nbytes
        if self._bytes and self._bytes + size_bytes > MOST_HELD_BYTES:
            raise ApiError(503, "there is too much to listen to at the moment; try again", retry_after_s=1)
        self._bytes += size_bytes
        try:
            yield
        finally:
            self._bytes -= size_bytes


class TranscriptionsApi:
    def __init__(self, model: ListeningModel, batcher: Batcher, names: ServedNames) -> None:
        self._languages = tuple(model.languages)
        self._batcher = batcher
        self._names = names
        self._held = Held()

    async def transcriptions(self, request: Request) -> Response:
        return await self._listen(request, translate=False)

    async def translations(self, request: Request) -> Response:
        return await self._listen(request, translate=True)

    async def _listen(self, request: Request, translate: bool) -> Response:
        try:
            async with request.form(max_files=1, max_fields=_FIELDS, max_part_size=_PART_BYTES) as form:
                self._names.check(form.get("model"))
                asked = await ListenRequest.read(form, self._languages, translate)
        except HTTPException as malformed:
            raise ApiError(400, f"the body is not a multipart form: {malformed.detail}") from malformed
        if asked.stream:
            return await events_response(request, self._events(asked.order))
        with self._held.room(asked.order):
            (transcript,) = await while_connected(request, self._batcher.outputs([asked.order]))
        return _answer(transcript, asked)

    async def _events(self, order: ListenOrder) -> AsyncGenerator[bytes, None]:
        parts: list[str] = []
        async with aclosing(self.transcripts(order)) as transcripts:
            async for transcript in transcripts:
                if transcript.text:
                    # What is joined from the deltas is the text of the end.
                    delta = f" {transcript.text}" if parts else transcript.text
                    parts.append(delta)
                    yield event({"type": "transcript.text.delta", "delta": delta}, "transcript.text.delta")
        done = {"type": "transcript.text.done", "text": "".join(parts), "usage": _usage(order.recording)}
        yield event(done, "transcript.text.done")

    async def transcripts(self, order: ListenOrder) -> AsyncGenerator[Transcript, None]:
        """Phrase by phrase where the model can. Raises ApiError where too much sound is here already."""
        with self._held.room(order):
            if self._batcher.streams:
                async with aclosing(self._batcher.pieces(order)) as pieces:
                    async for piece in pieces:
                        yield piece
            else:
                yield (await self._batcher.outputs([order]))[0]

    def read_input(self, given: Any, at: str) -> ListenOrder:
        """A WAV file in base64, alone or as an object's ``wav_b64``. Raises ApiError."""
        if isinstance(given, dict):
            given = given.get("wav_b64")
        if not isinstance(given, str):
            raise ApiError(400, f'{at} must be a WAV file in base64, or {{"wav_b64": ...}}', "inputs")
        try:
            data = base64.b64decode(given, validate=True)
        except binascii.Error as problem:
            raise ApiError(400, f"{at} is not base64: {problem}", "inputs") from problem
        return ListenOrder(read_recording(data, "inputs"))

    def shown(self, transcript: Transcript) -> dict[str, Any]:
        return {"text": transcript.text, "language": transcript.language, "words": _words(transcript)}


def _answer(transcript: Transcript, asked: ListenRequest) -> Response:
    recording = asked.order.recording
    if asked.format == "text":
        return PlainTextResponse(transcript.text + "\n")
    if asked.format == "srt":
        return PlainTextResponse(srt(transcript.segments), media_type="application/x-subrip")
    if asked.format == "vtt":
        return PlainTextResponse(vtt(transcript.segments), media_type="text/vtt")
    content: dict[str, Any] = {"text": transcript.text, "usage": _usage(recording)}
    if asked.format == "verbose_json":
        content |= {
            "task": "translate" if asked.order.translate else "transcribe",
            "language": transcript.language,
            "duration": round(recording.duration_s, 3),
            "segments": [_segment(number, each) for number, each in enumerate(transcript.segments)],
        }
        if asked.words:
            content["words"] = _words(transcript)
    return json_response(content)


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "start": segment.start_s,
        "end": segment.end_s,
        "text": segment.text,
        "avg_logprob": segment.log_likelihood,
    }


def _words(transcript: Transcript) -> list[dict[str, Any]]:
    return [
        {"word": word.text, "start": word.start_s, "end": word.end_s}
        for segment in transcript.segments
        for word in segment.words
    ]


def _usage(recording: Recording) -> dict[str, Any]:
    """As OpenAI counts recordings: by begun seconds."""
    return {"type": "duration", "seconds": math.ceil(recording.duration_s)}


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    if not isinstance(value, str):
        raise ApiError(400, f"`{name}` must be a text, not a file", name)
    return value.strip()


def _flag(form: FormData, name: str) -> bool:
    value = _text(form, name).lower()
    if value not in ("", "true", "false", "1", "0"):
        raise ApiError(400, f"`{name}` must be true or false", name)
    return value in ("true", "1")
