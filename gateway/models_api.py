"""GET /v1/models and /v1/models/{id}: what there is to call, as OpenAI's clients expect it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from fastapi import APIRouter, Depends
from fastapi.responses import Response

from gateway.accounts import Account
from gateway.documents import answer, shape
from gateway.errors import ModelNotFound, Unavailable
from gateway.routing import Routes
from models.store.records import ModelRoute


class ModelObject(msgspec.Struct, kw_only=True):
    """OpenAI's Model and more. ``tier``: the nearer, the sooner it answers: gpu, host, page_cache, disk, remote.

    ``capabilities``: generate, tokenize, embed, score, classify, image, speech, transcribe, predict; none where they
    are not known. ``max_model_len``: tokens of its context, prompt and answer together. ``parent``: of a LoRA adapter,
    the model that it changes. ``price``: exact decimals by unit: input_token, output_token, gpu_second, request.
    """

    id: str
    object: str = "model"
    created: int
    owned_by: str
    tier: str
    runtime: str
    max_model_len: int | None
    aliases: tuple[str, ...]
    capabilities: tuple[str, ...]
    parent: str | None
    price: dict[str, str]


class ModelList(msgspec.Struct, kw_only=True):
    object: str = "list"
    data: tuple[ModelObject, ...]


DOCUMENTS = (ModelObject, ModelList)


def models_router(routes: Routes, who: Callable[..., object]) -> APIRouter:
    """``who``: the account that asks, as a dependency; a key sees what it may call, and nothing else."""
    router = APIRouter(prefix="/v1/models", tags=["models"])

    @router.get("", responses=shape(ModelList), operation_id="list_models")
    async def list_models(account: Account = Depends(who)) -> Response:
        """Every model of the catalog that the key may call, running or not, each followed by its adapters."""
        _check_loaded(routes)
        every = ((route, shown) for route in routes.models for shown in model_objects(route))
        return answer(ModelList(data=tuple(shown for route, shown in every if account.may_call(route, shown.id))))

    @router.get("/{model_id:path}", responses=shape(ModelObject), operation_id="retrieve_model")
    async def retrieve_model(model_id: str, account: Account = Depends(who)) -> Response:
        """One model, by its id or an alias; or one adapter."""
        _check_loaded(routes)
        route = routes.find(model_id)
        if route is None or not account.may_call(route, model_id):
            raise ModelNotFound(model_id)
        is_adapter = model_id in route.adapters and model_id not in (route.model_id, *route.aliases)
        return answer(model_object(route, model_id if is_adapter else None))

    return router


def model_objects(route: ModelRoute) -> tuple[ModelObject, ...]:
    """The model, then its adapters."""
    return (model_object(route), *(model_object(route, adapter) for adapter in route.adapters))


def model_object(route: ModelRoute, adapter: str | None = None) -> ModelObject:
    return ModelObject(
        id=adapter or route.model_id,
        created=route.created_unix_s,
        owned_by=route.owned_by,
        tier=route.tier,
        runtime=route.runtime,
        max_model_len=route.max_model_len,
        aliases=() if adapter else route.aliases,
        capabilities=route.capabilities,
        parent=route.model_id if adapter else None,
        price=route.price,
    )


def _check_loaded(routes: Routes) -> None:
    if not routes.loaded:
        raise Unavailable("The server is starting and does not know its models yet; try again.", retry_after_s=1)
