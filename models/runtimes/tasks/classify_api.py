"""/classify as vLLM has it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.runtimes.protocol import Asgi
from models.runtimes.tasks.fields import texts_of
from models.runtimes.tasks.labels import Classified, LabelModel
from models.runtimes.tasks.predict_api import predict_route
from models.runtimes.torch.api import (
    ApiError,
    ServedNames,
    application,
    json_response,
    read_object,
    while_connected,
)
from models.runtimes.torch.batcher import Batcher

MOST_INPUTS = 2048


def build(model: LabelModel, batcher: Batcher, served_names: Sequence[str]) -> Asgi:
    """The application of one classifier."""
    names = ServedNames(served_names)
    api = ClassifyApi(model, batcher, names)
    routes = [Route("/classify", api.classify, methods=["POST"]), predict_route(batcher, names, _read_text, api.shown)]
    return application(names, routes, max_model_len=model.max_tokens)


class ClassifyApi:
    def __init__(self, model: LabelModel, batcher: Batcher, names: ServedNames) -> None:
        self._model = model
        self._batcher = batcher
        self._names = names

    async def classify(self, request: Request) -> Response:
        fields = await read_object(request)
        name = self._names.check(fields.get("model"))
        texts = texts_of(fields, "input", MOST_INPUTS)
        found: list[Classified] = await while_connected(request, self._batcher.outputs(texts))
        labels = self._model.labels
        data = [
            {"index": index, "label": self._best(each), "probs": each.probabilities, "num_classes": len(labels)}
            for index, each in enumerate(found)
        ]
        tokens = sum(each.tokens for each in found)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer = {"id": f"classify-{uuid.uuid4().hex}", "object": "list", "created": int(time.time()), "model": name}
        return json_response(answer | {"data": data, "usage": usage})

    def shown(self, found: Classified) -> dict[str, Any]:
        probabilities = dict(zip(self._model.labels, found.probabilities, strict=True))
        return {"label": self._best(found), "probabilities": probabilities}

    def _best(self, found: Classified) -> str:
        return self._model.labels[found.probabilities.index(max(found.probabilities))]


def _read_text(given: Any, at: str) -> str:
    if not isinstance(given, str) or not given.strip():
        raise ApiError(400, f"{at} must be a text, and not empty", "inputs")
    return given
