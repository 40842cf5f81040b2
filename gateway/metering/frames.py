"""Events as bytes and back. Numbers in fixed places; texts once a segment, and from then on by their number.

Written in about 1 us, since it is written for every request.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from gateway.metering.layout import FRAME
from models.store.usage import Run, UsageEvent

TEXT, EVENT = 1, 2
STREAM, ESTIMATED, CUT = 1, 2, 4
MOST_TEXTS = 0xFFFF
MOST_TOKENS = 0xFFFFFFFF

_TEXT = struct.Struct("=BxH")
# Times and waits; tokens; status; texts: key, project, tenant, model, endpoint, price list, code; then kind, flags,
# how many runs, bytes of the id. The runs and the id follow.
_EVENT = struct.Struct("=qqQQIIIHHHHHHHHBBBB")
_RUN = struct.Struct("=qQHxxxxxx")
_USUAL = struct.Struct("=qqQQIIIHHHHHHHHBBBBqQHxxxxxx")  # an event with one run
_KIND_AT = _EVENT.size - 4

_EventTexts = tuple[str, str, str, str, str, str, str]


class Texts:
    """Those that a segment has, as its writer knows them."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    @property
    def full(self) -> bool:
        """Another event might not find room for its texts."""
        return len(self._known) > MOST_TEXTS - 64

    def added(self, texts: tuple[str, ...]) -> bytes:
        """Frames that are to be written before an event with these texts."""
        frames = b""
        for text in texts:
            if text not in self._known:
                number = self._known[text] = len(self._known)
                frames += framed(_TEXT.pack(TEXT, number) + text.encode())
        return frames

    def event(
        self,
        texts: _EventTexts,
        times: tuple[int, int, int, int],
        tokens: tuple[int, int, int],
        status: int,
        flags: int,
        runs: tuple[Run, ...],
        request_id: str,
    ) -> bytes:
        """``times``: started, ended, queue, wake; ``tokens``: prompt, cached, completion.

        Raises KeyError where a text was not ``added``, struct.error for a number that is no such number.
        """
        known = self._known
        key, project, tenant, model, endpoint, prices, code = texts
        named = request_id.encode()
        numbers = (
            *times, *tokens, status,
            known[key], known[project], known[tenant], known[model], known[endpoint], known[prices], known[code],
            EVENT, flags, len(runs), len(named),
        )  # fmt: skip
        if len(runs) == 1:
            run = runs[0]
            return _USUAL.pack(*numbers, run.from_us, run.us, known[run.replica]) + named
        parts = [_EVENT.pack(*numbers)]
        parts += [_RUN.pack(run.from_us, run.us, known[run.replica]) for run in runs]
        return b"".join((*parts, named))


def framed(content: bytes) -> bytes:
    return FRAME.pack(len(content), zlib.crc32(content)) + content


def texts_of(event: UsageEvent) -> _EventTexts:
    return (event.key_id, event.project, event.tenant, event.model, event.endpoint, event.price_list, event.code)


def frames_of(texts: Texts, event: UsageEvent) -> bytes:
    """All that is to be written for it."""
    added = texts.added((*texts_of(event), *(run.replica for run in event.runs)))
    flags = event.stream * STREAM | event.estimated * ESTIMATED | event.cut * CUT
    times = (event.started_us, event.ended_us, event.queue_us, event.wake_us)
    tokens = (event.prompt_tokens, event.cached_tokens, event.completion_tokens)
    return added + framed(texts.event(texts_of(event), times, tokens, event.status, flags, event.runs, event.id))


def walk(data: memoryview | bytes, place: int) -> Iterator[tuple[int, bytes]]:
    """Each good frame from ``place`` on: where the next one begins, and its content. Ends at the first that is not."""
    end = len(data)
    while place + FRAME.size <= end:
        size, check = FRAME.unpack_from(data, place)
        begin, place = place + FRAME.size, place + FRAME.size + size
        if size == 0 or place > end:
            return
        content = bytes(data[begin:place])
        if zlib.crc32(content) != check:
            return
        yield place, content


class Reading:
    """Of one segment, from its beginning: ``take`` each frame."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._texts: dict[int, str] = {}

    def take(self, content: bytes) -> UsageEvent | None:
        """The event, where the frame is one. Raises ValueError, struct.error, KeyError for what no writer writes."""
        if content[0] == TEXT and len(content) >= _TEXT.size and not self._is_event(content):
            _, number = _TEXT.unpack_from(content)
            self._texts[number] = content[_TEXT.size :].decode()
            return None
        return self._event(content)
