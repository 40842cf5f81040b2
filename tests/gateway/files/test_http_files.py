"""Files with the official client: what was uploaded comes back byte for byte, to whoever uploaded it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from gateway.files.cabinet import FileLimits
from gateway.files.records import safe_name
from gateway.kept import KeptLimits
from gateway.settings import Limits
from tests.gateway.kept_world import FAST, KeptWorld
from tests.gateway.world import until

pytestmark = pytest.mark.anyio
MIB = 1 << 20


@pytest.fixture
async def world(kept_world: KeptWorld) -> KeptWorld:
    await kept_world.begin(KeptLimits(files=FileLimits(upload_bytes=3 * MIB, owner_bytes=4 * MIB), pace=FAST))
    return kept_world


def on_disk(world: KeptWorld) -> list[Path]:
    return [path for path in (world.home.root / "files").rglob("*") if path.is_file()]


async def test_up_and_down_again(world: KeptWorld) -> None:
    content = os.urandom(2 * MIB + 17)
    async with world.api() as api:
        made = await api.files.create(file=('räu"ber\r\n.jsonl', content), purpose="batch")
        assert (made.bytes, made.purpose, made.status, made.object) == (len(content), "batch", "processed", "file")
        found = await api.files.retrieve(made.id)
        assert found == made
        assert found.model_extra == {"sha256": hashlib.sha256(content).hexdigest()}
        assert found.expires_at == made.created_at + 30 * 86_400, "what is for a batch is not kept for ever"
        answer = await api.files.content(made.id)
    assert await answer.aread() == content
    assert answer.response.headers["content-type"] == "application/octet-stream"
    assert answer.response.headers["x-content-type-options"] == "nosniff"
    assert "\n" not in answer.response.headers["content-disposition"]


async def test_names_are_only_names(world: KeptWorld) -> None:
    async with world.api() as api:
        for given, kept in (("../../etc/passwd", "passwd"), ("C:\\x\\y.txt", "y.txt"), ("..", "..")):
            made = await api.files.create(file=(given, b"x"), purpose="user_data")
            assert made.filename == kept
            assert made.expires_at is None
    assert {path.parent.parent for path in on_disk(world)} == {world.home.root / "files"}
    assert safe_name("a\x00\x1b[2Jb\n") == "a[2Jb"
    assert safe_name("\x07/") == "file"
    assert len(safe_name("x" * 10_000)) == 255


async def test_lists(world: KeptWorld) -> None:
    async with world.api() as api:
        made = [
            await api.files.create(file=(f"{number}", b"x"), purpose="batch" if number % 2 else "vision")
            for number in range(5)
        ]
        ids = [file.id for file in made]
        assert [file.id async for file in api.files.list()] == ids[::-1]
        assert [file.id async for file in api.files.list(order="asc", limit=2)] == ids, "page after page"
        assert [file.id async for file in api.files.list(purpose="batch", order="asc")] == ids[1::2]
        page = await api.files.list(limit=2, after=ids[4])
        assert ([file.id for file in page.data], page.has_more) == ([ids[3], ids[2]], True)


async def test_deleting(world: KeptWorld) -> None:
    async with world.api() as api:
        made = await api.files.create(file=b"x", purpose="batch")
        assert (await api.files.delete(made.id)).deleted
        for call in (api.files.retrieve(made.id), api.files.content(made.id), api.files.delete(made.id)):
            with pytest.raises(openai.NotFoundError):
                await call
        assert [file async for file in api.files.list()] == []
    assert on_disk(world) == []


async def test_a_key_sees_its_own_only(world: KeptWorld) -> None:
    other = await world.make_key("other", "inference")
    admin = await world.make_key("operator", "admin")
    async with world.api() as api, world.api(other) as theirs:
        made = await api.files.create(file=b"mine", purpose="batch")
        for call in (theirs.files.retrieve(made.id), theirs.files.content(made.id), theirs.files.delete(made.id)):
            with pytest.raises(openai.NotFoundError):
                await call
        assert [file async for file in theirs.files.list()] == []
        assert await (await api.files.content(made.id)).aread() == b"mine"
    async with world.client() as session:
        for key, status in (("nonsense", 401), (admin, 403)):
            headers = {"authorization": f"Bearer {key}"}
            for path in ("/v1/files", f"/v1/files/{made.id}", f"/v1/files/{made.id}/content"):
                async with session.get(path, headers=headers) as answer:
                    assert answer.status == status


async def test_more_than_a_file_may_have(world: KeptWorld) -> None:
    async with world.api() as api:
        with pytest.raises(openai.APIStatusError) as refused:
            await api.files.create(file=b"x" * (3 * MIB + 1), purpose="batch")
        assert refused.value.status_code == 413
        made = await api.files.create(file=b"x" * (3 * MIB), purpose="batch")
        with pytest.raises(openai.APIStatusError) as full:
            await api.files.create(file=b"x" * (MIB + 1), purpose="batch")
        assert (full.value.status_code, full.value.code) == (413, "storage_quota_exceeded")
        await api.files.delete(made.id)
        await api.files.create(file=b"x" * (MIB + 1), purpose="batch")
    assert len(on_disk(world)) == 1


async def test_quotas_hold_for_uploads_at_the_same_time(world: KeptWorld) -> None:
    second = await world.begin(KeptLimits(files=FileLimits(upload_bytes=3 * MIB, owner_bytes=4 * MIB), pace=FAST))
    async with world.api() as one, world.api(worker=second) as other:
        uploads = [api.files.create(file=b"x" * MIB, purpose="batch") for api in (one, other) * 4]
        done = await asyncio.gather(*uploads, return_exceptions=True)
    assert sum(not isinstance(result, Exception) for result in done) == 4
    assert sum(path.stat().st_size for path in on_disk(world)) == 4 * MIB


async def test_a_chunked_upload_without_a_length_is_counted_too(world: KeptWorld) -> None:
    async def pieces(count: int) -> Any:
        yield form_head("file", "a.txt")
        for _ in range(count):
            yield b"x" * 65536
        yield b"\r\n--b--\r\n"

    async with world.client() as session:
        assert (await post(world, session, pieces(16)))[0] == 400, "there is no purpose"
        status, error = await post(world, session, pieces(60))
        assert (status, error["code"]) == (413, "request_too_large")
    assert on_disk(world) == []


def form_head(name: str, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename else ""
    return f'--b\r\ncontent-disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()


PURPOSE = form_head("purpose") + b"batch\r\n"
FILE = form_head("file", "a.txt") + b"content\r\n"
END = b"--b--\r\n"


async def post(world: KeptWorld, session: aiohttp.ClientSession, body: Any, **headers: str) -> tuple[int, Any]:
    given = {"authorization": f"Bearer {world.key}", "content-type": "multipart/form-data; boundary=b"} | headers
    async with session.post("/v1/files", data=body, headers=given) as answer:
        document = await answer.json()
        return answer.status, document.get("error", document)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (PURPOSE + FILE, "invalid_form"),  # no last boundary
        (PURPOSE + END, "invalid_request"),
        (FILE + END, "invalid_request"),
        (form_head("purpose") + b"fun\r\n" + FILE + END, "invalid_request"),
        (PURPOSE + form_head("file", "a") + b"\r\n" + END, "empty_file"),
        (PURPOSE + FILE + FILE + END, "invalid_request"),
        (PURPOSE + form_head("expires_after[anchor]") + b"created_at\r\n" + FILE + END, "invalid_request"),
        (PURPOSE + form_head("expires_after[seconds]") + b"7200\r\n" + FILE + END, "invalid_request"),
        (form_head("x") + b"x" * 5000 + b"\r\n" + PURPOSE + FILE + END, "invalid_request"),
        (b"".join(form_head(f"f{number}") + b"1\r\n" for number in range(20)) + END, "invalid_form"),
        (b"nonsense", "invalid_form"),
        (b"", "invalid_form"),
        (b"--b\r\nno colon here\r\n\r\nx\r\n--b--", "invalid_form"),
    ],
)
async def test_forms_that_are_none(world: KeptWorld, body: bytes, code: str) -> None:
    async with world.client() as session:
        status, error = await post(world, session, body)
    assert (status, error["code"]) == (400, code), error
    assert on_disk(world) == []


async def test_fields_in_any_order_and_an_expiry(world: KeptWorld) -> None:
    expiry = form_head("expires_after[anchor]") + b"created_at\r\n" + form_head("expires_after[seconds]") + b"7200\r\n"
    async with world.client() as session:
        status, made = await post(world, session, FILE + expiry + PURPOSE + END)
    assert (status, made["expires_at"] - made["created_at"], made["bytes"]) == (200, 7200, 7)


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "multipart/form-data; boundary="])
async def test_what_is_no_form(world: KeptWorld, content_type: str) -> None:
    async with world.client() as session:
        status, error = await post(world, session, PURPOSE + FILE + END, **{"content-type": content_type})
    assert (status, error["code"]) == (415, "unsupported_media_type")


async def test_a_caller_that_leaves_in_the_middle_leaves_nothing(world: KeptWorld) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", world.workers[0].port)
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {world.key}\r\n"
        "content-type: multipart/form-data; boundary=b\r\ncontent-length: 2000000\r\n\r\n"
    )
    writer.write(head.encode() + PURPOSE + form_head("file", "a") + b"x" * 1_500_000)
    await writer.drain()
    await until(lambda: on_disk(world))
    writer.close()
    await until(lambda: not on_disk(world))
    async with world.api() as api:
        assert [file async for file in api.files.list()] == []


async def test_one_tenants_uploads_leave_room_for_anothers(kept_world: KeptWorld) -> None:
    limits = FileLimits(uploads_at_once=3, owner_uploads_at_once=2)
    await kept_world.begin(KeptLimits(files=limits, pace=FAST))
    other = await kept_world.make_key("other", "inference")
    go_on = asyncio.Event()

    async def slow() -> Any:
        yield PURPOSE + form_head("file", "a") + b"x" * MIB
        await go_on.wait()
        yield b"\r\n" + END

    async with kept_world.client() as session, kept_world.api() as api, kept_world.api(other) as theirs:
        uploads = [asyncio.create_task(post(kept_world, session, slow())) for _ in range(2)]
        await until(lambda: len(on_disk(kept_world)) == 2)
        with pytest.raises(openai.RateLimitError) as refused:
            await api.files.create(file=b"x", purpose="batch")
        assert refused.value.code == "too_many_uploads"
        assert (await theirs.files.create(file=b"x", purpose="batch")).bytes == 1
        go_on.set()
        assert [status for status, _ in await asyncio.gather(*uploads)] == [200, 200]
        assert (await api.files.create(file=b"x", purpose="batch")).bytes == 1


async def test_many_bytes_are_not_in_memory_at_once(kept_world: KeptWorld) -> None:
    """100 MB up and down; the server and this test share a process, so the client streams as well."""
    size = 100 * MIB
    await kept_world.begin(KeptLimits(pace=FAST), Limits())
    Path("/proc/self/clear_refs").write_text("5")  # the peak is measured from here
    before = peak_kib()

    async def pieces() -> Any:
        yield PURPOSE + form_head("file", "big")
        for _ in range(size // MIB):
            yield b"x" * MIB
        yield b"\r\n" + END

    async with kept_world.client() as session:
        status, made = await post(kept_world, session, pieces())
        assert (status, made["bytes"]) == (200, size)
        seen = 0
        async with session.get(f"/v1/files/{made['id']}/content", headers=kept_world.headers) as answer:
            async for piece in answer.content.iter_chunked(MIB):
                seen += len(piece)
    assert seen == size
    assert peak_kib() - before < 50 * 1024


def peak_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")


async def test_the_published_document_has_them(world: KeptWorld) -> None:
    async with world.client() as session, session.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    assert {"post", "get"} <= set(paths["/v1/files"])
    assert {"get", "delete"} <= set(paths["/v1/files/{file_id}"])
    schema = json.dumps(paths["/v1/files"]["post"]["requestBody"])
    assert "multipart/form-data" in schema
