"""POST /v1/files: from a form on its way in to a file with a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping

import structlog
from starlette.requests import ClientDisconnect

from gateway.errors import ClientGone, HoldQueueFull, InvalidRequest
from gateway.files.cabinet import Cabinet
from gateway.files.disk import DiskFull
from gateway.files.form import FRAMING_BYTES, FileForm
from gateway.files.records import BATCH_PURPOSE, PURPOSES, FileRecord, new_file_id, safe_name

SHORTEST_S, LONGEST_S = 3600, 30 * 86_400
BATCH_INPUT_S = 30 * 86_400  # files for batches are not kept for ever, as in OpenAI's API

log = structlog.get_logger(__name__)


class TooManyUploads(HoldQueueFull):
    code = "too_many_uploads"


class Uploads:
    def __init__(self, cabinet: Cabinet) -> None:
        self._cabinet = cabinet
        self._now: Counter[str] = Counter()  # uploads of each owner

    async def take(
        self, owner: str, content_type: str | None, content_length: str | None, body: AsyncIterator[bytes]
    ) -> FileRecord:
        """Raises GatewayError; then nothing of it is kept."""
        limits = self._cabinet.limits
        form = FileForm(content_type, limits.upload_bytes)
        declared = int(content_length) if content_length and content_length.isdecimal() else 0
        expected_bytes = max(0, declared - FRAMING_BYTES)
        await self._cabinet.check_room(owner, expected_bytes)
        if self._now.total() >= limits.uploads_at_once or self._now[owner] >= limits.owner_uploads_at_once:
            raise TooManyUploads("Too many files are being uploaded at the moment; try again.", retry_after_s=2)
        self._now[owner] += 1
        try:
            return await self._take(owner, form, expected_bytes, body)
        except ClientDisconnect as gone:
            raise ClientGone("the caller left while sending the file") from gone
        except OSError as failed:
            log.error("a file cannot be written", reason=str(failed))
            raise DiskFull("The file could not be written; tell the operator.", retry_after_s=10) from failed
        finally:
            self._now[owner] -= 1
            self._now += Counter()  # forgets who has none

    async def _take(self, owner: str, form: FileForm, expected_bytes: int, body: AsyncIterator[bytes]) -> FileRecord:
        async with self._cabinet.disk.incoming(expected_bytes) as incoming:
            await form.read(body, incoming.write)
            if form.filename is None:
                raise InvalidRequest("The form has no field 'file'.", param="file")
            purpose = form.fields.get("purpose", "")
            if purpose not in PURPOSES:
                raise InvalidRequest(f"The field 'purpose' must be one of {', '.join(PURPOSES)}.", param="purpose")
            if form.size_bytes == 0:
                raise InvalidRequest("The file is empty.", param="file", code="empty_file")
            created_at = int(self._cabinet.clock.unix())
            lasts_s = _lasts_s(form.fields, BATCH_INPUT_S if purpose == BATCH_PURPOSE else None)
            written = await incoming.finish()
            record = FileRecord(
                id=new_file_id(),
                bytes=written.size_bytes,
                created_at=created_at,
                filename=safe_name(form.filename),
                purpose=purpose,
                sha256=written.sha256,
                expires_at=None if lasts_s is None else created_at + lasts_s,
            )
            await self._cabinet.add(owner, written, record)
            return record


def _lasts_s(fields: Mapping[str, str], usual_s: int | None) -> int | None:
    """Raises InvalidRequest."""
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return usual_s
    if anchor != "created_at":
        raise InvalidRequest("expires_after[anchor] must be 'created_at'.", param="expires_after[anchor]")
    if seconds is None or not seconds.isdecimal() or not SHORTEST_S <= int(seconds[:12]) <= LONGEST_S:
        message = f"expires_after[seconds] must be a number of seconds from {SHORTEST_S} to {LONGEST_S}."
        raise InvalidRequest(message, param="expires_after[seconds]")
    return int(seconds)
