"""``python -m loadtests.gateway.ray_app``: Ray Serve in front of an application that answers as the engine does.

It cannot stand before engines that are not its own, so its replica has the engine's bytes by heart and there is one
hop less than with the others, which is to its advantage.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from loadtests.gateway.traffic import BRIEF, BURST, HELD, PACED, PATH, PLAIN, chat

PACE_S = 0.005
HELD_S = 2.0
MANY = 2000


def learnt(engine: str, model: str, stream: bool) -> bytes:
    """What the engine answers."""
    asked = urllib.request.Request(engine + PATH, chat(model, stream=stream), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return bytes(answer.read())


class Canned:
    """The replica."""

    def __init__(self, plain: bytes, stream: bytes) -> None:
        self._plain = plain
        self._events = [event + b"\n\n" for event in stream.split(b"\n\n") if event]

    async def __call__(self, request: Any) -> Any:
        from starlette.responses import Response, StreamingResponse

        if request.method != "POST":
            return Response(b"{}", media_type="application/json")
        body = json.loads(await request.body())
        if not body.get("stream"):
            return Response(self._plain, media_type="application/json")
        return StreamingResponse(self._stream(body["model"]), media_type="text/event-stream")

    async def _stream(self, model: str) -> AsyncIterator[bytes]:
        if model == HELD:
            while True:
                yield self._events[0]
                await asyncio.sleep(HELD_S)
        for number, event in enumerate(self._events):
            if model == PACED or (model == BRIEF and number == 1):
                await asyncio.sleep(PACE_S)
            if model != BRIEF or number == 0 or number >= len(self._events) - 2:
                yield event


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.gateway.ray_app")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--engine", required=True)
    options = parser.parse_args()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    import ray
    from ray import serve

    ray.init(
        num_cpus=4,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(options.folder),
        logging_level=logging.ERROR,
    )
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": options.port})
        replica = serve.deployment(max_ongoing_requests=MANY, num_replicas=1)(Canned)
        answers = learnt(options.engine, PLAIN, stream=False), learnt(options.engine, BURST, stream=True)
        serve.run(replica.bind(*answers))
        ended.wait()
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
    sys.exit(0)


if __name__ == "__main__":
    main()
