"""Keys for the gateway on its own: made and hashed without a store."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import yaml

from gateway.standalone.reading import read_keys
from models.home import Home
from models.store.api_keys import hash_key
from tests.gateway.cli.conftest import Cli


def test_the_hash_of_a_key_that_is_read_from_stdin(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("rh-hunter2\n"))
    said = cli("keys", "hash")
    assert (said.status, said.out) == (0, hash_key("rh-hunter2") + "\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("rh-hunter2"))
    assert cli("keys", "hash", "--json").json == {"hash": hash_key("rh-hunter2")}


@pytest.mark.parametrize("given", ["", "\n", "rh hunter2\n"])
def test_what_is_no_key_is_refused_and_not_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    said = cli("keys", "hash")
    assert said.status == 2
    assert "hunter2" not in said.out + said.err


def test_a_new_key_comes_with_its_lines_for_the_file(cli: Cli, tmp_path: Path, home: Home) -> None:
    said = cli("keys", "hash", "--new", 'shop: "x"')
    key = said.out.strip()
    assert key.startswith("rh-")
    assert key not in said.err
    file = tmp_path / "keys.yaml"
    file.write_text("keys:\n" + said.err.split("\n", 1)[1])
    (read,) = read_keys(file).keys
    assert (read.name, read.hash) == ('shop: "x"', hash_key(key))
    assert list(home.redis_dir.iterdir()) == [], "no store was started for it"


def test_a_new_key_for_machines(cli: Cli) -> None:
    made = cli("keys", "hash", "--new", "shop", "--json").json
    assert made == {"name": "shop", "key": made["key"], "hash": hash_key(made["key"])}


def test_a_name_that_is_none(cli: Cli) -> None:
    said = cli("keys", "hash", "--new", " ", "--json")
    assert (said.status, said.error["code"]) == (2, "key_refused")


def test_the_lines_are_yaml_whatever_the_name(cli: Cli) -> None:
    said = cli("keys", "hash", "--new", "- {a}: #'")
    (line,) = yaml.safe_load(said.err.split("\n", 1)[1])
    assert line["name"] == "- {a}: #'"
