"""The HTTP side of what is kept for callers, as a part of the control application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.requests import Request

from gateway import documents
from gateway.abuse.guard import Guard
from gateway.admin_doors import recognised
from gateway.auth import INFERENCE, Doorman
from gateway.batches import api as batches_api
from gateway.endpoints import ENDPOINTS
from gateway.files.api import files_router
from gateway.kept import DOCUMENTS
from gateway.responses.api import responses_router
from models.store.records import KeyRecord

if TYPE_CHECKING:
    from gateway.kept import Kept


def include(control: FastAPI, kept: Kept, doorman: Doorman, guard: Guard) -> None:
    async def who(request: Request) -> KeyRecord:
        key = await doorman.authenticate(request.headers.raw, INFERENCE)
        recognised(request, key, guard)
        return key

    paths = batches_api.batchable(ENDPOINTS)
    control.include_router(responses_router(kept.responses, kept.background, who))
    control.include_router(files_router(kept.cabinet, who))
    control.include_router(batches_api.batches_router(kept.batches, kept.cabinet, kept.desk, paths, kept.clock, who))
    documents.publish(control, DOCUMENTS, ())
