"""``roundhouse gateway``: what it checks and says before it becomes a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.cli.gateway import worker_count
from models.store.api_keys import hash_key
from tests.gateway.cli.conftest import Cli

ROUTES = """
models:
  - model_id: m
    aliases: [gpt]
    upstreams: [{url: "http://a/v1", weight: 2, slots: 8}, {url: unix:/b.sock, model: there, weight: 0}]
"""


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    words: list[str] = []
    monkeypatch.setattr("os.execv", lambda _, command: words.extend(command[1:]))
    return words


@pytest.fixture
def routes(tmp_path: Path) -> str:
    (tmp_path / "routes.yaml").write_text(ROUTES)
    return "routes.yaml"


@pytest.fixture
def keys(tmp_path: Path) -> str:
    (tmp_path / "keys.yaml").write_text(f"keys: [{{name: shop, hash: {hash_key('rh-a')}}}]")
    return "keys.yaml"


def test_it_says_what_comes_and_becomes_the_server(cli: Cli, routes: str, keys: str, became: list[str]) -> None:
    said = cli("gateway", "--routes", routes, "--keys", keys, "--port", "8001", "--workers", "3", "--host", "0.0.0.0")
    assert (said.status, said.out) == (0, "")
    assert said.err == "1 model on 2 upstreams, at http://0.0.0.0:8001 with 3 workers\n"
    expected = "-m gateway.standalone --routes routes.yaml --host 0.0.0.0 --port 8001 --workers 3 --access-log all"
    assert became == [*expected.split(), "--keys", "keys.yaml"]


def test_without_keys_it_says_who_may_call(cli: Cli, routes: str, became: list[str]) -> None:
    said = cli("gateway", "--routes", routes)
    assert "everybody on this machine may call" in said.err
    assert "--keys" not in became


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.1.1"])
def test_others_need_keys(cli: Cli, routes: str, became: list[str], host: str) -> None:
    said = cli("gateway", "--routes", routes, "--host", host, "--json")
    assert (said.status, said.error["code"], became) == (2, "keys_required", [])
    assert "--keys" in said.error["cure"]


def test_a_dry_run_shows_what_would_be_served(cli: Cli, routes: str, keys: str, became: list[str]) -> None:
    shown = cli("gateway", "--routes", routes, "--keys", keys, "--dry-run")
    assert "http://a" in shown.out
    assert became == []
    document: Any = cli("gateway", "--routes", routes, "--keys", keys, "--dry-run", "--json").json
    assert document["models"] == [{
        "model_id": "m", "aliases": ["gpt"], "adapters": [],
        "upstreams": [
            {"url": "http://a", "model": None, "weight": 2.0, "slots": 8},
            {"url": "unix:/b.sock", "model": "there", "weight": 0, "slots": 0},
        ],
    }]  # fmt: skip
    assert [key["name"] for key in document["keys"]] == ["shop"]
    assert hash_key("rh-a") not in str(document)


def test_every_wrong_field_is_named(cli: Cli, tmp_path: Path, became: list[str]) -> None:
    (tmp_path / "routes.yaml").write_text("models: [{model_id: m, upstream: [], upstreams: [{url: nowhere}]}]")
    said = cli("gateway", "--routes", "routes.yaml", "--json")
    assert (said.status, said.error["code"], became) == (2, "invalid_configuration", [])
    assert {problem["field"] for problem in said.error["problems"]} == {
        "models[0].upstream",
        "models[0].upstreams[0].url",
    }
    assert (
        cli("gateway", "--routes", "nowhere.yaml", "--json").error["problems"][0]["message"] == "there is no such file"
    )


def test_a_wrong_file_of_keys_is_named(cli: Cli, routes: str, tmp_path: Path, became: list[str]) -> None:
    (tmp_path / "keys.yaml").write_text("keys: [{name: a, key: rh-hunter2}]")
    said = cli("gateway", "--routes", routes, "--keys", "keys.yaml")
    assert (said.status, became) == (2, [])
    assert "keys.yaml" in said.err
    assert "roundhouse keys hash" in said.err
    assert "hunter2" not in said.err


@pytest.mark.parametrize(
    "words",
    [
        ("--workers", "0"),
        ("--workers", "65"),
        ("--workers", "many"),
        ("--access-log", "some"),
        ("--tls-cert", "x"),
        ("--port", "-1"),
    ],
)
def test_what_is_asked_wrongly(cli: Cli, routes: str, became: list[str], words: tuple[str, ...]) -> None:
    said = cli("gateway", "--routes", routes, *words, "--json")
    assert (said.status, said.error["code"], became) == (2, "usage", [])


@pytest.mark.parametrize(
    ("given", "cores", "count"), [("1", 8, 1), ("64", 2, 64), ("auto", 4, 4), ("auto", 32, 8), ("auto", 0, 1)]
)
def test_how_many_workers(given: str, cores: int, count: int) -> None:
    assert worker_count(given, cores) == count
