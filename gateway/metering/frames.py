"""Events as bytes and back. Numbers in fixed places; texts once a segment, and from then on by their number.

Written in about 1 us, since it is written for every request.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator, Sequence

from gateway.metering.layout import FRAME
from models.store.usage import Run, UsageEvent

TEXT, EVENT, USUAL = 1, 2, 3
STREAM, ESTIMATED, CUT = 1, 2, 4
MOST_TEXTS = 0xFFFF
SPARE_TEXTS = 300  # more than one event has

_TEXT = struct.Struct("=BxH")
# Kind, flags, how many runs, bytes of the id; times and waits in microseconds; tokens; status, code; then Texts.head.
# The runs follow, then the id.
_EVENT = struct.Struct("=BBBBqqQQIIIHH12s")
_RUN = struct.Struct("=qQHxxxxxx")
_HEAD = struct.Struct("=6H")
# One run, which ended with the event: no matter what it costs to write others. Times are seconds here.
_USUAL = struct.Struct("=BBHB3xdddddIIIHH12s")
pack_usual = _USUAL.pack

Stay = tuple[str, int, int]  # a ``Run``, as it is cheap to make: replica, microseconds of its beginning, how many


class Texts:
    """Those that a segment has, as its writer knows them. ``heads``: its own notes of ``head``, by what it likes."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.heads: dict[object, bytes] = {}

    @property
    def full(self) -> bool:
        """Another event might not find room for its texts."""
        return len(self.known) > MOST_TEXTS - SPARE_TEXTS

    def added(self, texts: tuple[str, ...]) -> bytes:
        """Frames that are to be written before an event with these texts."""
        frames = b""
        for text in texts:
            if text not in self.known:
                number = self.known[text] = len(self.known)
                frames += framed(_TEXT.pack(TEXT, number) + text.encode())
        return frames

    def head(self, event: UsageEvent) -> bytes:
        """Whose it is, and what was asked for. Raises KeyError where one of them was not ``added``."""
        return _HEAD.pack(*(self.known[text] for text in _head_of(event)))

    def frames(self, event: UsageEvent) -> bytes:
        """All that is to be written for it. Raises struct.error for a number that is none of an event's."""
        added = self.added((*_head_of(event), event.code, *(run.replica for run in event.runs)))
        request_id = event.id.encode()
        flags = event.stream * STREAM | event.estimated * ESTIMATED | event.cut * CUT
        numbers = _EVENT.pack(
            EVENT, flags, len(event.runs), len(request_id),
            event.started_us, event.ended_us, event.queue_us, event.wake_us,
            event.prompt_tokens, event.cached_tokens, event.completion_tokens,
            event.status, self.known[event.code], self.head(event),
        )  # fmt: skip
        runs = b"".join(_RUN.pack(run.from_us, run.us, self.known[run.replica]) for run in event.runs)
        return added + framed(numbers + runs + request_id)


def framed(content: bytes) -> bytes:
    return FRAME.pack(len(content), zlib.crc32(content)) + content


def _head_of(event: UsageEvent) -> tuple[str, str, str, str, str, str]:
    return (event.key_id, event.project, event.tenant, event.model, event.endpoint, event.price_list)


def microseconds(seconds: float) -> int:
    return int(seconds * 1e6)


def walk(data: bytes | mmap.mmap, place: int) -> Iterator[tuple[int, bytes]]:
    """Each good frame from ``place`` on: where the next one begins, and its content. Ends at the first that is not."""
    end = len(data)
    while place + FRAME.size <= end:
        size, check = FRAME.unpack_from(data, place)
        begin, place = place + FRAME.size, place + FRAME.size + size
        if size == 0 or place > end:
            return
        content = data[begin:place]
        if zlib.crc32(content) != check:
            return
        yield place, content


class Reading:
    """Of one segment, from its beginning: ``take`` each frame."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._texts: dict[int, str] = {}
        self._heads: dict[bytes, list[str]] = {}

    def take(self, content: bytes) -> UsageEvent | None:
        """The event, where the frame is one. Raises ValueError, struct.error, KeyError for what no writer writes."""
        if content[0] == USUAL:
            return self._usual(content)
        if content[0] == EVENT:
            return self._event(content)
        if content[0] != TEXT:
            raise ValueError(f"a frame of the unknown kind {content[0]}")
        _, number = _TEXT.unpack_from(content)
        self._texts[number] = content[_TEXT.size :].decode()
        self._heads.clear()
        return None

    def texts_only(self, content: bytes) -> None:
        """Of frames that were read before. Raises as ``take``."""
        if content[0] == TEXT:
            self.take(content)

    def _usual(self, content: bytes) -> UsageEvent:
        (
            _, flags, status, _, started_s, ended_s, from_s, queue_s, wake_s, prompt, cached, completion, code,
            replica, head,
        ) = _USUAL.unpack_from(content)  # fmt: skip
        from_us, ended_us = microseconds(from_s), microseconds(ended_s)
        run = Run(replica=self._texts[replica], from_us=from_us, us=max(0, ended_us - from_us))
        times = (microseconds(started_s), ended_us, microseconds(queue_s), microseconds(wake_s))
        tokens = (prompt, cached, completion)
        return self._made(content[_USUAL.size :], head, times, tokens, status, self._texts[code], flags, (run,))

    def _event(self, content: bytes) -> UsageEvent:
        _, flags, count, named, *numbers, status, code, head = _EVENT.unpack_from(content)
        place, runs = _EVENT.size, []
        for _ in range(count):
            from_us, us, replica = _RUN.unpack_from(content, place)
            runs.append(Run(replica=self._texts[replica], from_us=from_us, us=us))
            place += _RUN.size
        request_id = content[place : place + named]
        code = self._texts[code]
        return self._made(request_id, head, numbers[:4], numbers[4:], status, code, flags, tuple(runs))

    def _made(
        self,
        request_id: bytes,
        head: bytes,
        times: Sequence[int],
        tokens: Sequence[int],
        status: int,
        code: str,
        flags: int,
        runs: tuple[Run, ...],
    ) -> UsageEvent:
        texts = self._heads.get(head)
        if texts is None:
            texts = self._heads[head] = [self._texts[number] for number in _HEAD.unpack(head)]
        key_id, project, tenant, model, endpoint, price_list = texts
        return UsageEvent(
            id=request_id.decode(),
            started_us=times[0],
            ended_us=times[1],
            key_id=key_id,
            project=project,
            tenant=tenant,
            model=model,
            endpoint=endpoint,
            status=status,
            code=code,
            stream=bool(flags & STREAM),
            prompt_tokens=tokens[0],
            cached_tokens=tokens[1],
            completion_tokens=tokens[2],
            estimated=bool(flags & ESTIMATED),
            cut=bool(flags & CUT),
            queue_us=times[2],
            wake_us=times[3],
            runs=runs,
            price_list=price_list,
            worker=self._worker,
        )
