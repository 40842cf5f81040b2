"""The OpenAI images endpoint: a prompt to pictures, whole or with coarser ones on the way."""

from __future__ import annotations

import base64
import io
import re
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.runtimes.protocol import Asgi
from models.runtimes.tasks.events import event, events_response
from models.runtimes.tasks.fields import choice_of, flag_of, text_of, whole_of
from models.runtimes.tasks.pictures import Picture, PictureModel, PictureOrder
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

MOST_PICTURES = 10  # OpenAI's own limit
MOST_PARTIALS = 3  # OpenAI's own limit
LONGEST_PROMPT = 32_000  # characters; OpenAI's own limit
FORMATS = ("png", "jpeg", "webp")
QUALITIES = ("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd")
PATCH = 16  # an image token is a square of so many pixels
LARGEST_SEED = 2**63 - 1
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})", re.ASCII)


def build(model: PictureModel, batcher: Batcher, served_names: Sequence[str]) -> Asgi:
    """The application of one image model."""
    names = ServedNames(served_names)
    api = ImagesApi(model, batcher, names)
    routes = [
        Route("/v1/images/generations", api.generations, methods=["POST"]),
        predict_route(batcher, names, api.read_input, api.shown),
    ]
    return application(names, routes)


@dataclass(frozen=True, slots=True)
class ImagesRequest:
    """A checked request body. ``quality``, ``style`` and the like are taken and make no difference."""

    order: PictureOrder
    count: int
    format: str
    compression: int  # 0 (smallest file) to 100, not of PNG
    stream: bool

    @classmethod
    def read(cls, fields: Mapping[str, Any], model: PictureModel) -> ImagesRequest:
        """Raises ApiError naming the field."""
        choice_of(fields, "response_format", ("b64_json",), "b64_json")  # there is no place where a URL could point to
        choice_of(fields, "quality", QUALITIES, "auto")
        stream = flag_of(fields, "stream", False)
        count = whole_of(fields, "n", 1, 1, MOST_PICTURES)
        if stream and count > 1:
            raise ApiError(400, "`n` must be 1 when `stream` is true", "n")
        partials = whole_of(fields, "partial_images", 0, 0, MOST_PARTIALS)
        return cls(
            replace(_order(fields, model), partials=partials if stream else 0),
            count,
            choice_of(fields, "output_format", FORMATS, "png"),
            whole_of(fields, "output_compression", 100, 0, 100),
            stream,
        )


class ImagesApi:
    def __init__(self, model: PictureModel, batcher: Batcher, names: ServedNames) -> None:
        self._model = model
        self._batcher = batcher
        self._names = names

    async def generations(self, request: Request) -> Response:
        fields = await read_object(request)
        self._names.check(fields.get("model"))
        asked = ImagesRequest.read(fields, self._model)
        if asked.stream:
            return await events_response(request, self._events(asked))
        # Each of several is another picture, and each can be had again by its own seed.
        orders = [replace(asked.order, seed=(asked.order.seed + i) & LARGEST_SEED) for i in range(asked.count)]
        pictures: list[Picture] = await while_connected(request, self._batcher.outputs(orders))
        data = [
            {"b64_json": encoded(picture, asked.format, asked.compression), "seed": order.seed}
            for order, picture in zip(orders, pictures, strict=True)
        ]
        told = {"created": int(time.time()), **_described(asked)}
        return json_response(told | {"data": data, "usage": _usage(pictures)})

    async def _events(self, asked: ImagesRequest) -> AsyncGenerator[bytes, None]:
        if not self._batcher.streams:  # no coarser pictures then, only the whole one
            pictures = await self._batcher.outputs([asked.order])
            yield _completed(asked, pictures[0])
            return
        index = 0
        async with aclosing(self._batcher.pieces(asked.order)) as pieces:
            async for picture in pieces:
                if index < asked.order.partials:
                    yield _event(asked, picture, "partial_image", partial_image_index=index)
                else:
                    yield _completed(asked, picture)
                index += 1

    def read_input(self, given: Any, at: str) -> PictureOrder:
        """A prompt alone, or an object with ``prompt``, ``size`` and ``seed``. Raises ApiError."""
        if isinstance(given, str):
            given = {"prompt": given}
        if not isinstance(given, dict):
            raise ApiError(400, f'{at} must be a prompt, or {{"prompt": ..., "size": ..., "seed": ...}}', "inputs")
        return _order(given, self._model)

    def shown(self, picture: Picture) -> dict[str, Any]:
        height, width, _ = picture.pixels.shape
        return {"b64_json": encoded(picture, "png", 100), "size": f"{width}x{height}"}


def _order(fields: Mapping[str, Any], model: PictureModel) -> PictureOrder:
    prompt = text_of(fields, "prompt", LONGEST_PROMPT)
    width, height = _size(fields.get("size"), model)
    return PictureOrder(prompt, width, height, whole_of(fields, "seed", secrets.randbits(31), 0, LARGEST_SEED))


def _size(given: Any, model: PictureModel) -> tuple[int, int]:
    if given is None or given == "auto":
        return model.default_size
    least, most = model.sizes
    match = _SIZE.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise ApiError(400, "`size` must be written as WIDTHxHEIGHT in pixels, for example 256x256", "size")
    width, height = int(match[1]), int(match[2])
    if not (least <= width <= most and least <= height <= most):
        raise ApiError(400, f"`size` must be from {least}x{least} to {most}x{most} with this model", "size")
    return width, height


def encoded(picture: Picture, kind: str, compression: int) -> str:
    """The picture as a file of ``kind``, in base64."""
    from PIL import Image

    file = io.BytesIO()
    options: dict[str, Any] = {} if kind == "png" else {"quality": max(1, compression)}
    Image.fromarray(picture.pixels).save(file, format=kind.upper(), **options)
    return base64.b64encode(file.getvalue()).decode()


def _described(asked: ImagesRequest) -> dict[str, Any]:
    order = asked.order
    return {"size": f"{order.width}x{order.height}", "output_format": asked.format, "background": "opaque"}


def _event(asked: ImagesRequest, picture: Picture, kind: str, **more: Any) -> bytes:
    name = f"image_generation.{kind}"
    told = {"type": name, "created_at": int(time.time()), "quality": "auto", **_described(asked), **more}
    return event(told | {"b64_json": encoded(picture, asked.format, asked.compression)}, name)


def _completed(asked: ImagesRequest, picture: Picture) -> bytes:
    return _event(asked, picture, "completed", usage=_usage([picture]))


def _usage(pictures: Sequence[Picture]) -> dict[str, Any]:
    """Text tokens in, image tokens out: one for each square of PATCH pixels."""
    text = sum(picture.prompt_tokens for picture in pictures)
    image = sum(-(-p.pixels.shape[0] // PATCH) * -(-p.pixels.shape[1] // PATCH) for p in pictures)
    return {
        "input_tokens": text,
        "input_tokens_details": {"text_tokens": text, "image_tokens": 0},
        "output_tokens": image,
        "total_tokens": text + image,
    }
