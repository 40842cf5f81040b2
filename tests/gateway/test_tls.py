"""TLS from files: what cannot be used is named, and new files are taken up while connections stay."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from gateway.tls import Tls, TlsError, TlsFiles, Watcher, load
from tests.gateway.certificates import ONE, ONE_KEY, ONE_KEY_WITH_PASSWORD, TWO, TWO_KEY


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return written(TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem"), ONE, ONE_KEY)


def written(files: TlsFiles, cert: str, key: str) -> TlsFiles:
    """As a renewal does it: new files in the place of the old ones."""
    for path, text in ((files.cert, cert), (files.key, key)):
        partial = path.with_suffix(".new")
        partial.write_text(text)
        partial.replace(path)
    return files


def shown(connection: asyncio.StreamWriter) -> str:
    """The name in the certificate that the server showed."""
    der = connection.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return "one" if der == ssl.PEM_cert_to_DER_cert(ONE) else "two" if der == ssl.PEM_cert_to_DER_cert(TWO) else "?"


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ONE + TWO)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@asynccontextmanager
async def server(tls: Tls) -> AsyncIterator[int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    listening = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls.context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def connected(port: int, name: str | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = trusting()
    if name is None:  # no name in the greeting
        context.check_hostname = False
        return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="")
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)


async def renewal(files: TlsFiles, name: str | None) -> list[str]:
    """What callers are shown before and after, and that the first one goes on undisturbed."""
    tls = Tls(files)
    async with server(tls) as port:
        reader, first = await connected(port, name)
        assert first.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        said = [shown(first)]
        assert not tls.look(), "nothing has changed"
        written(files, TWO, TWO_KEY)
        assert tls.look()
        _, second = await connected(port, name)
        said.append(shown(second))
        first.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        for writer in (first, second):
            writer.close()
    return said


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", None])
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_new_certificate_is_shown_to_new_connections_and_old_ones_stay(
    files: TlsFiles, name: str | None, loop: type[asyncio.AbstractEventLoop]
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(renewal(files, name)) == ["one", "two"]


def test_a_broken_renewal_changes_nothing_and_is_told_of_once(files: TlsFiles) -> None:
    async def story() -> None:
        tls = Tls(files)
        async with server(tls) as port:
            files.cert.write_text(TWO)  # the key is still to come
            with pytest.raises(TlsError, match="does not belong to the certificate"):
                tls.look()
            assert not tls.look(), "it is known to be wrong"
            _, writer = await connected(port, "localhost")
            assert shown(writer) == "one"
            writer.close()
            files.key.write_text(TWO_KEY)
            assert tls.look()
            _, writer = await connected(port, "localhost")
            assert shown(writer) == "two"
            writer.close()

    asyncio.run(story())


def test_the_watcher_says_what_it_did(files: TlsFiles, capsys: pytest.CaptureFixture[str]) -> None:
    watcher = Watcher(Tls(files))
    watcher.look()
    files.cert.write_text("nonsense")
    watcher.look()
    written(files, TWO, TWO_KEY)
    watcher.look()
    said = capsys.readouterr().out
    assert said.count("cannot be used; the old one stays in force") == 1
    assert "new TLS certificate in force" in said


@pytest.mark.parametrize(
    ("cert", "key", "why"),
    [
        (ONE, TWO_KEY, r"key\.pem does not belong to the certificate"),
        ("nonsense", ONE_KEY, r"no TLS certificate and key in PEM form"),
        (ONE, "nonsense", r"no TLS certificate and key in PEM form"),
        (ONE, ONE_KEY_WITH_PASSWORD, r"has a password; write it without"),
    ],
)
def test_files_that_cannot_be_used(files: TlsFiles, cert: str, key: str, why: str) -> None:
    written(files, cert, key)
    with pytest.raises(TlsError, match=why):
        load(files)


def test_files_that_are_not_there(files: TlsFiles) -> None:
    files.key.unlink()
    with pytest.raises(TlsError, match=r"the TLS key .*key\.pem cannot be read: No such file.*gateway\.tls"):
        load(files)


def test_old_versions_are_not_spoken(files: TlsFiles) -> None:
    assert load(files).minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_file_written_again_is_noticed(files: TlsFiles) -> None:
    tls = Tls(files)
    os.utime(files.cert, ns=(1, 1))
    assert tls.look()
