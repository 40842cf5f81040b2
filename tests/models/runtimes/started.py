"""An engine that a test starts, talks to and stops."""

from __future__ import annotations

import contextlib
import itertools

from models.runtimes.protocol import EngineError
from tests.models.runtimes.http_calls import call
from tests.models.runtimes.orders import order

STORY = [{"role": "user", "content": "Tell me a story about a train."}]


class Started:
    """A ready engine and where it is reached."""

    def __init__(self, connection):
        self.connection = connection
        self.order = connection.status.order
        self.pid = connection.status.pid

    async def call(self, path, body=None, method="POST"):
        if isinstance(body, dict):
            body = {"model": self.order.model_id, **body}
        return await call(self.order.http_path, path, body, method)

    async def answer(self, path, body=None, method="POST"):
        status, answer = await self.call(path, body, method)
        assert status == 200, answer
        return answer

    async def tell(self, max_tokens=24, messages=STORY, **more):
        body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0, **more}
        return (await self.answer("/v1/chat/completions", body))["choices"][0]["message"]["content"]

    async def running_requests(self):
        lines = (await self.answer("/metrics", method="GET")).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("vllm:num_requests_running{"))


_numbers = itertools.count(1)


@contextlib.asynccontextmanager
async def engine(running, source, runtime="vllm", replica_id="", **settings):
    await running.ready()
    # A name of its own, as in production: the process of the one before may take a moment longer to end.
    ordered = order(running.folder, replica_id or f"r{next(_numbers)}", source=source, runtime=runtime, **settings)
    connection = await running.start(ordered)
    try:
        yield Started(connection)
    finally:
        with contextlib.suppress(EngineError):
            await connection.call("stop")
        await connection.closed.wait()
        await connection.close()
