"""``python -m loadtests.tenants.engine SOCKET``: an engine that works for as long as each request's ``work_s`` says.

How many it works on at once is the gateway's affair: it knows the engine's slots.
"""

from __future__ import annotations

import asyncio
import json
import sys

from loadtests.tenants.http import Broken, answer, read_message

USAGE = {"prompt_tokens": 20, "completion_tokens": 30, "total_tokens": 50}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "All aboard."}, "finish_reason": "stop"}
ANSWER = answer(json.dumps({"id": "1", "object": "chat.completion", "choices": [CHOICE], "usage": USAGE}).encode())


async def main(path: str) -> None:
    server = await asyncio.start_unix_server(_serve, path)
    print("ready", flush=True)
    await server.serve_forever()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            _, body = await read_message(reader)
            await asyncio.sleep(float(json.loads(body)["work_s"]))
            writer.write(ANSWER)
            await writer.drain()
    except (EOFError, Broken, ConnectionError):
        pass
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
