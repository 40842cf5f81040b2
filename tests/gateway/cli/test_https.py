"""Commands and a service with TLS: the certificate that the service itself shows is trusted, no other is."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from gateway.cli.client import AdminClient, find_service
from gateway.cli.errors import Unreachable
from gateway.service import credentials, record
from gateway.service.processes import identify
from gateway.tls import TlsFiles, load
from models.home import Home
from tests.gateway.certificates import ONE, ONE_KEY, TWO


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"key": "%s"}' % self.headers["authorization"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def cert(tmp_path: Path) -> Path:
    (tmp_path / "cert.pem").write_text(ONE)
    (tmp_path / "key.pem").write_text(ONE_KEY)
    return tmp_path / "cert.pem"


@pytest.fixture
def port(cert: Path) -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = load(TlsFiles(cert, cert.with_name("key.pem")))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_its_own_certificate_will_do(port: int, cert: Path) -> None:
    assert AdminClient(f"https://127.0.0.1:{port}", "k", cert).get("status") == {"key": "Bearer k"}


@pytest.mark.parametrize("trusted", [None, TWO])
def test_no_other_will(port: int, tmp_path: Path, trusted: str | None) -> None:
    other = None
    if trusted is not None:
        other = tmp_path / "other.pem"
        other.write_text(trusted)
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        AdminClient(f"https://127.0.0.1:{port}", "k", other).get("status")


def test_commands_know_it_from_the_record(port: int, cert: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(home.root))
    me = identify(os.getpid())
    assert me is not None
    url = f"https://127.0.0.1:{port}"
    running = record.ServiceRecord(
        pid=me.pid, start_ticks=me.start_ticks, instance=home.instance, home=str(home.root), url=url, config="x",
        state="serving", since_unix_s=0, tls_cert=str(cert),
    )  # fmt: skip
    record.write(home, running)
    credentials.write(home.demo_env, {credentials.URL: url, credentials.ADMIN_KEY: "rh-admin"})
    assert find_service(home.root).get("status") == {"key": "Bearer rh-admin"}
    record.write(home, msgspec.structs.replace(running, url="https://127.0.0.1:1", admin_url=url))
    for env in ({}, {credentials.URL: "https://127.0.0.1:1", credentials.ADMIN_KEY: "rh-admin"}):
        found = find_service(None if env else home.root, env={**env, "ROUNDHOUSE_HOME": str(home.root)})
        assert found.get("status") == {"key": "Bearer rh-admin"}, "the admin API's own port is known as well"
    elsewhere = find_service(env={credentials.URL: "https://elsewhere:1", credentials.ADMIN_KEY: "k"})
    assert elsewhere.cert is None, "it says nothing of other services"


def test_a_service_of_an_older_version_has_no_certificate_on_record(home: Home) -> None:
    home.service_file.write_bytes(
        b'{"pid": 1, "start_ticks": 1, "instance": "i", "home": "h", "url": "http://x", "config": "c",'
        b' "state": "serving", "since_unix_s": 0}'
    )
    found = record.read(home)
    assert found is not None
    assert found.tls_cert is None
