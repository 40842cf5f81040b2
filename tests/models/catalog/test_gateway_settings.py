"""The gateway's part of the configuration: what may be written, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.catalog.config import ConfigError, json_schema, load_config
from models.catalog.gateway import GatewaySettings

EVERYTHING = """\
gateway:
  workers: 4
  admin: {host: 10.0.0.7, port: 8001}
  tls: {cert: cert.pem, key: key.pem}
  hold_comments: 15s
  max_upload: 1GiB
  max_head: 16KiB
  max_connections: 20000
  request_timeout: 10s
  idle_timeout: 2m
  linger: 500ms
  drain_timeout: 30s
  access_log: errors
  media_hosts: [images.example.com, localhost]
  caps: {n: 4, max_tokens: 4096}
models: []
"""


def read(folder: Path, text: str) -> GatewaySettings:
    path = folder / "roundhouse.yaml"
    path.write_text(text)
    return load_config(path).gateway


def problem(folder: Path, line: str) -> tuple[str, str]:
    with pytest.raises(ConfigError) as wrong:
        read(folder, f"gateway: {{{line}}}\nmodels: []\n")
    assert len(wrong.value.problems) == 1, wrong.value.problems
    only = wrong.value.problems[0]
    return only.field, f"{only.message}; {only.cure}"


def test_everything_can_be_written(tmp_path: Path) -> None:
    found = read(tmp_path, EVERYTHING)
    assert found.tls is not None
    assert found.admin is not None
    assert (found.admin.host, found.admin.port) == ("10.0.0.7", 8001)
    assert (found.workers, found.tls.cert, found.tls.key) == (4, "cert.pem", "key.pem")
    assert (found.max_upload, found.max_head, found.max_connections) == (1 << 30, 16 << 10, 20_000)
    assert (found.request_timeout, found.idle_timeout, found.linger) == (10.0, 120.0, 0.5)
    assert (found.hold_comments, found.drain_timeout, found.access_log) == (15.0, 30.0, "errors")
    assert found.media_hosts == ("images.example.com", "localhost")
    assert found.caps.given() == {"n": 4, "max_tokens": 4096}
    assert GatewaySettings.model_validate(found.model_dump(mode="json")) == found


def test_nothing_need_be_written(tmp_path: Path) -> None:
    found = read(tmp_path, "models: []")
    assert (found.workers, found.tls, found.access_log, found.media_hosts) == ("auto", None, "all", ())
    assert found.caps.given() == {}


@pytest.mark.parametrize("wrong", ["0", "65", "-1", "some", "1.5", "true", "'2'"])
def test_a_number_of_workers_that_cannot_be(tmp_path: Path, wrong: str) -> None:
    field, said = problem(tmp_path, f"workers: {wrong}")
    assert field == "gateway.workers"
    assert said.endswith("is not a number of workers; write auto, or 1 to 64")


@pytest.mark.parametrize(
    ("line", "field", "said"),
    [
        ("request_timeout: 0", "gateway.request_timeout", "is not above 0 and below a day"),
        ("idle_timeout: 2d", "gateway.idle_timeout", "unknown unit"),
        ("hold_timeout: 48h", "gateway.hold_timeout", "is not above 0 and below a day"),
        ("hold_limit: 0", "gateway.hold_limit", "greater than or equal to 1"),
        ("linger: -1", "gateway.linger", "is not between 0 and ten years"),
        ("max_head: 0", "gateway.max_head", "greater than or equal to 1"),
        ("max_body: lots", "gateway.max_body", "is not a size"),
        ("max_connections: -1", "gateway.max_connections", "greater than or equal to 0"),
        ("access_log: some", "gateway.access_log", "known here: all, errors, off"),
        ("media_hosts: [https://x.example.com]", "gateway.media_hosts[0]", "without scheme, port, path"),
        ("media_hosts: [X.example.com]", "gateway.media_hosts[0]", "write it in lower case"),
        ("caps: {tool: 1}", "gateway.caps.tool", "did you mean tools?"),
        ("caps: {n: 0}", "gateway.caps.n", "greater than or equal to 1"),
        ("admin: {port: 0}", "gateway.admin.port", "greater than or equal to 1"),
        ("tls: {cert: a.pem}", "gateway.tls.key", "is missing; add it"),
        ("tls: {cert: a.pem, key: ''}", "gateway.tls.key", "at least 1 character"),
    ],
)
def test_what_is_wrong_is_named_with_its_cure(tmp_path: Path, line: str, field: str, said: str) -> None:
    where, words = problem(tmp_path, line)
    assert where == field
    assert said in words


def test_the_schema_tells_editors_of_it() -> None:
    section = json_schema()["$defs"]["GatewaySettings"]["properties"]
    assert {"const": "auto"} in section["workers"]["anyOf"]
    assert set(section) == set(GatewaySettings.model_fields)
