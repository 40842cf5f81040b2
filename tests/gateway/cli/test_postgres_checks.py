"""What doctor, and the start of the service, say of the PostgreSQL that usage is copied to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.billing.sink_line import URL_ENV
from gateway.cli.errors import AskedWrongly
from gateway.cli.postgres_checks import postgres
from gateway.cli.postgres_url import check_postgres_url
from tests.gateway.billing.postgres_server import PostgresServer
from tests.gateway.cli.conftest import Cli
from tests.models.store.servers import free_port


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def test_none_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL_ENV, raising=False)
    check_postgres_url()
    assert postgres().verdict == "ok"


def test_one_that_answers(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_ENV, server.url)
    check_postgres_url()
    assert (postgres().verdict, postgres().found) == ("ok", f"the one in {URL_ENV} answers")


def test_one_that_does_not_is_a_warning_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_ENV, f"postgresql://meter:hidden@127.0.0.1:{free_port()}/billing")
    found = postgres()
    assert found.verdict == "warn"
    assert "refused" in found.found
    assert "hidden" not in found.found + found.cure


def test_a_url_that_is_none_keeps_the_service_from_starting(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL_ENV, "mysql://meter:hidden@db/billing")
    with pytest.raises(AskedWrongly, match="postgresql://user:password@host"):
        check_postgres_url()
    assert postgres().verdict == "fail"
    said = cli("up", "--json")
    assert (said.status, said.error["code"]) == (2, "invalid_setting")
    assert "hidden" not in said.out + said.err
