"""``python -m tests.gateway.standalone.upstream SOCKET NAME``: an upstream as a process, to be killed.

Each answer says who gave it: the message's content is NAME. A request with ``"fake": "hang"`` is never answered.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web


def application(name: str) -> web.Application:
    async def chat(request: web.Request) -> web.Response:
        fields = await request.json()
        if fields.get("fake") == "hang":
            await asyncio.Event().wait()
        message = {"role": "assistant", "content": name}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": fields["model"], "choices": choices}
        return web.json_response(answer | {"usage": usage})

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/health", health)
    return app


if __name__ == "__main__":
    web.run_app(application(sys.argv[2]), path=sys.argv[1], print=None, access_log=None)
