"""/v1/files, as in OpenAI's API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import FileResponse, Response
from starlette.requests import Request

from gateway.documents import answer, shape
from gateway.files.cabinet import Cabinet
from gateway.files.records import FileDeleted, FileList, FileObject, file_list, shown
from gateway.files.uploads import Uploads
from models.store.records import KeyRecord

MOST_LISTED = 10_000
_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file", "purpose"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "purpose": {"type": "string"},
                    "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                    "expires_after[seconds]": {"type": "integer"},
                },
            }
        }
    },
}

_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": {"application/octet-stream": {}}}
}


def files_router(cabinet: Cabinet, who: Callable[[Request], Awaitable[KeyRecord]]) -> APIRouter:
    """``who`` checks the API key of a request."""
    router = APIRouter(prefix="/v1/files", tags=["files"])
    uploads = Uploads(cabinet)

    @router.post("", responses=shape(FileObject), operation_id="create_file", openapi_extra={"requestBody": _FORM})
    async def create(request: Request, key: KeyRecord = Depends(who)) -> Response:
        """Keep a file; it goes to the disk as it comes in."""
        headers = request.headers
        length = headers.get("content-length")
        return answer(shown(await uploads.take(key.key_id, headers.get("content-type"), length, request.stream())))

    @router.get("", responses=shape(FileList), operation_id="list_files")
    async def list_files(
        key: KeyRecord = Depends(who),
        purpose: str | None = None,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = MOST_LISTED,
        order: Annotated[Literal["asc", "desc"], Query()] = "desc",
        after: str | None = None,
    ) -> Response:
        """The files of this API key."""
        page = await cabinet.page(
            key.key_id,
            after=after,
            limit=limit,
            newest_first=order == "desc",
            wanted=lambda record: purpose in (None, record.purpose),
        )
        return answer(file_list(page.records, page.more))

    @router.get("/{file_id}", responses=shape(FileObject), operation_id="retrieve_file")
    async def retrieve(file_id: str, key: KeyRecord = Depends(who)) -> Response:
        return answer(shown(await cabinet.find(key.key_id, file_id)))

    @router.delete("/{file_id}", responses=shape(FileDeleted), operation_id="delete_file")
    async def delete(file_id: str, key: KeyRecord = Depends(who)) -> Response:
        await cabinet.delete(key.key_id, file_id)
        return answer(FileDeleted(id=file_id))

    @router.get("/{file_id}/content", responses=_CONTENT, operation_id="download_file", response_class=Response)
    async def content(file_id: str, key: KeyRecord = Depends(who)) -> Response:
        """The bytes as they were uploaded."""
        record = await cabinet.find(key.key_id, file_id)
        # Never a type that a browser would run.
        headers = {"x-content-type-options": "nosniff", "cache-control": "private, no-store"}
        path = cabinet.content(key.key_id, record)
        return FileResponse(path, media_type="application/octet-stream", filename=record.filename, headers=headers)

    return router
