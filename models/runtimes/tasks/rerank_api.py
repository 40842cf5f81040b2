"""/v1/rerank as Cohere, Jina and vLLM have it, and /v1/score as vLLM has it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.runtimes.protocol import Asgi
from models.runtimes.tasks.fields import flag_of, text_of, texts_of
from models.runtimes.tasks.pairs import Pair, PairModel, Score
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

MOST_DOCUMENTS = 2048


def build(model: PairModel, batcher: Batcher, served_names: Sequence[str]) -> Asgi:
    """The application of one reranker."""
    names = ServedNames(served_names)
    api = RerankApi(batcher, names)
    routes = [
        *(Route(path, api.rerank, methods=["POST"]) for path in ("/v1/rerank", "/v2/rerank", "/rerank")),
        *(Route(path, api.score, methods=["POST"]) for path in ("/v1/score", "/score")),
        predict_route(batcher, names, _read_pair, _shown),
    ]
    return application(names, routes, max_model_len=model.max_tokens)


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """A checked request body. ``top_n``: how many results are wanted."""

    query: str
    documents: list[str]
    top_n: int
    with_documents: bool

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> RerankRequest:
        """Raises ApiError naming the field."""
        query = text_of(fields, "query")
        documents = _documents(fields.get("documents"))
        top_n = fields.get("top_n")
        if top_n is not None and (type(top_n) is not int or top_n < 0):
            raise ApiError(400, "`top_n` must be a whole number, 0 for all", "top_n")
        return cls(query, documents, top_n or len(documents), flag_of(fields, "return_documents", True))


class RerankApi:
    def __init__(self, batcher: Batcher, names: ServedNames) -> None:
        self._batcher = batcher
        self._names = names

    async def rerank(self, request: Request) -> Response:
        fields = await read_object(request)
        name = self._names.check(fields.get("model"))
        asked = RerankRequest.read(fields)
        scores = await self._scores(request, [Pair(asked.query, document) for document in asked.documents])
        # Documents of equal scores stay in the order in which they came.
        ranked = sorted(range(len(scores)), key=lambda index: -scores[index].value)[: asked.top_n]
        results: list[dict[str, Any]] = [
            {"index": index, "relevance_score": scores[index].value}
            | ({"document": {"text": asked.documents[index]}} if asked.with_documents else {})
            for index in ranked
        ]
        answer = {"id": f"rerank-{uuid.uuid4().hex}", "object": "list", "model": name}
        return json_response(answer | {"results": results, "usage": _usage(scores)})

    async def score(self, request: Request) -> Response:
        fields = await read_object(request)
        name = self._names.check(fields.get("model"))
        scores = await self._scores(request, _pairs(fields))
        data = [{"index": index, "object": "score", "score": score.value} for index, score in enumerate(scores)]
        answer = {"id": f"score-{uuid.uuid4().hex}", "object": "list", "created": int(time.time()), "model": name}
        return json_response(answer | {"data": data, "usage": _usage(scores)})

    async def _scores(self, request: Request, pairs: Sequence[Pair]) -> list[Score]:
        return await while_connected(request, self._batcher.outputs(pairs))


def _documents(given: Any) -> list[str]:
    """Texts, or objects that hold one under ``text``."""
    if given is None:
        raise ApiError(400, "`documents` is missing", "documents")
    if not isinstance(given, list) or not given:
        raise ApiError(400, "`documents` must be a list of texts, and not empty", "documents")
    if len(given) > MOST_DOCUMENTS:
        raise ApiError(400, f"`documents` has {len(given)} items, at most {MOST_DOCUMENTS} are taken", "documents")
    texts = [item.get("text") if isinstance(item, dict) else item for item in given]
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ApiError(400, f'`documents[{index}]` must be a text or {{"text": ...}}', "documents")
    return [str(text) for text in texts]


def _pairs(fields: Mapping[str, Any]) -> list[Pair]:
    """One text against many, or many against as many, one to one."""
    one = texts_of(fields, "text_1", MOST_DOCUMENTS)
    other = texts_of(fields, "text_2", MOST_DOCUMENTS)
    if len(one) == 1:
        one = one * len(other)
    if len(one) != len(other):
        raise ApiError(400, f"`text_1` has {len(one)} texts, `text_2` has {len(other)}: send one, or as many", "text_1")
    return [Pair(query, document) for query, document in zip(one, other, strict=True)]


def _read_pair(given: Any, at: str) -> Pair:
    match given:
        case {"query": str(query), "document": str(document)} if query.strip():
            return Pair(query, document)
    raise ApiError(400, f'{at} must be {{"query": ..., "document": ...}}, two texts', "inputs")


def _shown(score: Score) -> dict[str, float]:
    return {"score": score.value}


def _usage(scores: Sequence[Score]) -> dict[str, int]:
    tokens = sum(score.tokens for score in scores)
    return {"prompt_tokens": tokens, "total_tokens": tokens}
