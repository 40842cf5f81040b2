"""POST /v1/predict/{model}: any JSON in, any JSON out. Every task has it beside its own endpoint."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.runtimes.protocol import Asgi
from models.runtimes.tasks.events import DONE, event, events_response
from models.runtimes.torch.api import ApiError, ServedNames, application, json_response, while_connected
from models.runtimes.torch.batcher import Batcher
from models.runtimes.torch.model import TorchModel

PATH = "/v1/predict/{model:path}"
MOST_INPUTS = 2048
EVENTS = "text/event-stream"

Read = Callable[[Any, str], Any]  # what a caller sent for one input, and its name in messages -> the model's input
Show = Callable[[Any], Any]  # the model's output -> what goes out as JSON


def build(model: TorchModel, batcher: Batcher, served_names: Sequence[str]) -> Asgi:
    """The application of task "predict": inputs and outputs are JSON as it comes."""
    names = ServedNames(served_names)
    return application(names, [predict_route(batcher, names)])


def predict_route(batcher: Batcher, names: ServedNames, read: Read | None = None, show: Show | None = None) -> Route:
    """``read`` raises ApiError; left out, inputs and outputs are JSON as they are."""
    return Route(PATH, PredictApi(batcher, names, read or _as_it_is, show or _plain).predict, methods=["POST"])


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """``many``: the answer is a list of outputs. A body without ``inputs`` is one input as a whole."""

    inputs: list[Any]
    many: bool
    stream: bool

    @classmethod
    def read(cls, body: bytes, read: Read, accept: str) -> PredictRequest:
        """Raises ApiError naming the field."""
        try:
            given = json.loads(body)
        except (ValueError, RecursionError) as problem:
            raise ApiError(400, f"the body is not JSON: {problem}") from problem
        wants_events = accept.partition(",")[0].partition(";")[0].strip().lower() == EVENTS
        if not isinstance(given, dict) or "inputs" not in given:
            return cls([read(given, "the body")], many=False, stream=wants_events)
        stream = given.get("stream", False)
        if not isinstance(stream, bool):
            raise ApiError(400, "`stream` must be true or false", "stream")
        inputs = given["inputs"]
        if not isinstance(inputs, list):
            return cls([read(inputs, "`inputs`")], many=False, stream=stream or wants_events)
        if not 0 < len(inputs) <= MOST_INPUTS:
            raise ApiError(400, f"`inputs` has {len(inputs)} items; send 1 to {MOST_INPUTS}", "inputs")
        read_inputs = [read(item, f"`inputs[{index}]`") for index, item in enumerate(inputs)]
        return cls(read_inputs, many=True, stream=stream or wants_events)


class PredictApi:
    def __init__(self, batcher: Batcher, names: ServedNames, read: Read, show: Show) -> None:
        self._batcher = batcher
        self._names = names
        self._read = read
        self._show = show

    async def predict(self, request: Request) -> Response:
        name = self._names.check(request.path_params["model"])
        asked = PredictRequest.read(await request.body(), self._read, request.headers.get("accept", ""))
        if asked.stream:
            if not self._batcher.streams:
                raise ApiError(400, f"the model `{name}` does not stream; leave `stream` out", "stream")
            return await events_response(request, self._pieces(asked))
        outputs = await while_connected(request, self._batcher.outputs(asked.inputs))
        shown = [self._show(output) for output in outputs]
        found = {"outputs": shown} if asked.many else {"output": shown[0]}
        return json_response({"object": "prediction", "model": name, **found})

    async def _pieces(self, asked: PredictRequest) -> AsyncGenerator[bytes, None]:
        """One input after another; ``index`` says whose piece it is."""
        for index, item in enumerate(asked.inputs):
            async with aclosing(self._batcher.pieces(item)) as pieces:
                async for piece in pieces:
                    yield event({"index": index, "output": self._show(piece)})
        yield DONE


def _as_it_is(given: Any, _at: str) -> Any:
    return given


def _plain(output: Any) -> Any:
    """Numbers of numpy and torch, and their arrays, as JSON has them."""
    return msgspec.to_builtins(output, enc_hook=_listed)


def _listed(value: Any) -> Any:
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    raise ApiError(500, f"the model's output is not JSON: there is something of the type {type(value).__name__} in it")
