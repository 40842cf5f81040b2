"""``python -m tests.gateway.tenancy.engine_process SOCKET``: an engine that counts its tokens as vLLM does.

Every token is a word of its own, so whoever reads the answer can count them. How many there are, says ``max_tokens``
(``max_output_tokens``); how fast they come, ``how``: ``every_s`` between two, ``work_s`` before the first.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.gateway.plane.protocol.raw_engine import STREAM_HEAD, Asked, Link, RawEngine, whole

PROMPT_TOKENS = 7
WORD = "zap"  # what a reader counts
Event = dict[str, Any]


async def work(link: Link, asked: Asked) -> None:
    fields = asked.json
    await asyncio.sleep(asked.how.get("work_s", 0.0))
    if asked.how.get("fails"):
        await link.say(whole(b'{"error":{"message":"no","type":"BadRequest","code":400}}', status="400 Bad Request"))
    elif not fields.get("stream"):
        await link.say(whole(json.dumps(ANSWERS[asked.path](fields)).encode()))
    else:
        await link.say(STREAM_HEAD)
        for one in STREAMS[asked.path](fields):
            await link.say(b"%x\r\n%b\r\n" % (len(one), one))
            if WORD.encode() in one:
                await asyncio.sleep(asked.how.get("every_s", 0.0))
        await link.say(b"0\r\n\r\n")


def usage(completion: int) -> Event:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "total_tokens": PROMPT_TOKENS + completion,
        "completion_tokens": completion,
    }


def usage_of_others(completion: int) -> Event:
    return {"input_tokens": PROMPT_TOKENS, "output_tokens": completion}


def _data(event: Event, name: str = "") -> bytes:
    line = b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"
    return b"event: %b\n%b" % (name.encode(), line) if name else line


# -- chat ------------------------------------------------------------------------------------------------------------


def chat(fields: Event) -> Event:
    most, choices = fields["max_tokens"], fields.get("n", 1)
    message = {"role": "assistant", "content": f" {WORD}" * most}
    return {
        "id": "c1", "object": "chat.completion", "created": 1, "model": fields["model"],
        "choices": [{"index": index, "message": message, "finish_reason": "length"} for index in range(choices)],
        "usage": usage(most * choices),
    }  # fmt: skip


def chat_stream(fields: Event) -> Iterator[bytes]:
    most, choices = fields["max_tokens"], fields.get("n", 1)
    options = fields.get("stream_options") or {}
    each, last = options.get("continuous_usage_stats"), options.get("include_usage")
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": fields["model"]}

    def event(index: int, delta: Event, so_far: int, reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _data(head | {"choices": [choice]} | ({"usage": usage(so_far)} if each else {}))

    for index in range(choices):
        yield event(index, {"role": "assistant", "content": ""}, 0)
    for number in range(most):
        for index in range(choices):
            reason = "length" if number == most - 1 else None
            yield event(index, {"content": f" {WORD}"}, number + 1, reason)
    if last:
        yield _data(head | {"choices": [], "usage": usage(most * choices)})
    yield b"data: [DONE]\n\n"


# -- the other dialects ------------------------------------------------------------------------------------------------


def message(fields: Event) -> Event:
    text = f" {WORD}" * fields["max_tokens"]
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": fields["model"],
        "content": [{"type": "text", "text": text}], "stop_reason": "max_tokens", "stop_sequence": None,
        "usage": usage_of_others(fields["max_tokens"]),
    }  # fmt: skip


def message_stream(fields: Event) -> Iterator[bytes]:
    most = fields["max_tokens"]
    begun = message(fields) | {"content": [], "stop_reason": None, "usage": usage_of_others(0)}
    text = {"type": "text", "text": ""}
    yield _data({"type": "message_start", "message": begun}, "message_start")
    yield _data({"type": "content_block_start", "index": 0, "content_block": text}, "content_block_start")
    for _ in range(most):
        delta = {"type": "text_delta", "text": f" {WORD}"}
        yield _data({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")
    yield _data({"type": "content_block_stop", "index": 0}, "content_block_stop")
    end = {"stop_reason": "max_tokens", "stop_sequence": None}
    yield _data({"type": "message_delta", "delta": end, "usage": usage_of_others(most)}, "message_delta")
    yield _data({"type": "message_stop"}, "message_stop")


def response(fields: Event, *, over: bool = True) -> Event:
    most = fields["max_output_tokens"]
    content = [{"type": "output_text", "text": f" {WORD}" * most, "annotations": []}]
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": fields["model"],
        "status": "completed" if over else "in_progress", "output": [item] if over else [],
        "usage": usage_of_others(most) | {"total_tokens": PROMPT_TOKENS + most} if over else None,
    }  # fmt: skip


def response_stream(fields: Event) -> Iterator[bytes]:
    yield _data({"type": "response.created", "response": response(fields, over=False)}, "response.created")
    for _ in range(fields["max_output_tokens"]):
        delta = {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0}
        yield _data(delta | {"delta": f" {WORD}"}, "response.output_text.delta")
    yield _data({"type": "response.completed", "response": response(fields)}, "response.completed")


ANSWERS = {"/v1/chat/completions": chat, "/v1/messages": message, "/v1/responses": response}
STREAMS = {
    "/v1/chat/completions": chat_stream,
    "/v1/messages": message_stream,
    "/v1/responses": response_stream,
}


async def main(socket: Path) -> None:
    socket.unlink(missing_ok=True)
    await RawEngine(socket, play=work).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
