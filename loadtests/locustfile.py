"""The Locust user: chats, streamed or whole, and fires three kinds of requests for what its caller would feel.

- ``TTFT``: sending the request to the first event that carries text. One per stream.
- ``ITL``: each gap between neighbouring events that carry text, so that one stall shows in the upper percentiles where
  a mean per stream would hide it. Locust's requests per second of this kind are tokens per second.
- ``E2E``: sending the request to the end of the answer. One per request; a failure is here, in the server's words.

``python -m loadtests`` runs it headless; ``locust -f loadtests/locustfile.py`` offers it under Locust's own screens.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from gevent import GreenletExit
from locust import User, constant, events, task
from locust.env import Environment

from loadtests.chat import ChatRequest, Progress, stream_chat, whole_chat
from loadtests.figures import Tally
from loadtests.prompts import prompt
from loadtests.served import chat_models
from loadtests.target import Target, TargetError, find_target
from loadtests.wire import CallFailed


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--models", default="", help="comma-separated; all chat models when not given")
    parser.add_argument("--max-tokens", type=int, default=32, help="tokens asked for per answer")
    parser.add_argument("--unstreamed", type=float, default=0.0, help="share of requests that do not stream, 0 to 1")
    parser.add_argument("--seed", type=int, default=0, help="repeats a run's requests")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds without a byte until a request fails")
    parser.add_argument("--summary", default="", help="file for the figures in full resolution (JSON)")
    parser.add_argument("--allow-remote", action="store_true", help="load a service that is not on this machine")


def prepare(environment: Environment, **_: Any) -> None:
    """Ask the service for its models once, before any user exists, and keep a tally of all that is fired."""
    options = environment.parsed_options
    if options is None:  # used as a library: whoever makes the environment sets the users up
        return
    try:
        target = find_target(os.environ, options.allow_remote)
        ChatUser.models = tuple(chat_models(target, [name for name in options.models.split(",") if name]))
    except (TargetError, CallFailed) as problem:
        sys.exit(f"loadtests: {problem}")
    environment.host = target.url
    ChatUser.target = target
    tally = Tally()
    hooks: Any = environment.events
    hooks.request.add_listener(tally_listener(tally))
    begun_s = time.monotonic()

    def write(**_: Any) -> None:
        if options.summary:
            Path(options.summary).write_text(json.dumps(tally.summary(time.monotonic() - begun_s), indent=1) + "\n")

    hooks.quitting.add_listener(write)


def tally_listener(tally: Tally) -> Any:
    def listen(request_type: str, name: str, response_time: float, exception: Exception | None, **_: Any) -> None:
        tally.record(request_type, name, response_time, None if exception is None else str(exception))

    return listen


class ChatUser(User):
    """Asks again as soon as it has its answer: what is measured is the service under N conversations at once."""

    wait_time = constant(0)
    target: Target
    models: tuple[str, ...] = ()
    users = 0

    def on_start(self) -> None:
        ChatUser.users += 1
        self.options = self.environment.parsed_options
        self.rng = random.Random(f"{self.options.seed}/{ChatUser.users}")

    @task
    def chat(self) -> None:
        request = ChatRequest(self.rng.choice(self.models), prompt(self.rng), self.options.max_tokens)
        whole = self.rng.random() < self.options.unstreamed
        name = f"{request.model} (whole)" if whole else request.model
        progress = Progress(started_s=time.perf_counter())
        error: Exception | None = None
        try:
            send = whole_chat if whole else stream_chat
            send(self.target, request, progress, time.perf_counter, self.options.timeout)
        except CallFailed as problem:
            error = problem
        except GreenletExit:
            error = CallFailed("not answered when the load test ended")
            raise
        finally:
            self.report(name, progress, error)
        if error is not None:
            time.sleep(0.1)  # a service that refuses at once must not be hammered by a tight loop

    def report(self, name: str, progress: Progress, error: Exception | None) -> None:
        if progress.ttft_s is not None:
            self.fire("TTFT", name, progress.ttft_s)
        for gap_s in progress.gaps_s:
            self.fire("ITL", name, gap_s)
        ended_s = progress.ended_s or time.perf_counter()
        self.fire("E2E", name, ended_s - progress.started_s, error)

    def fire(self, kind: str, name: str, elapsed_s: float, error: Exception | None = None) -> None:
        self.environment.events.request.fire(
            request_type=kind, name=name, response_time=elapsed_s * 1000, response_length=0, exception=error, context={}
        )


listeners: Any = events
listeners.init_command_line_parser.add_listener(add_options)
listeners.init.add_listener(prepare)
