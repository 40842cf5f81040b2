"""routes.yaml and keys.yaml: what is taken, and what is said of what is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from gateway.standalone.reading import read_keys, read_routes
from gateway.standalone.routes_file import LimitSettings, ModelSettings, UpstreamSettings
from gateway.standalone.table import compile_table
from models.catalog.errors import ConfigError

WHOLE = """
models:
  - model_id: llama
    aliases: [gpt-4o-mini]
    adapters: [llama-legal]
    capabilities: [generate, tokenize]
    context_length: 8192
    price: {input_token: 0.0000002, output_token: "0.0000006"}
    owned_by: us
    upstreams:
      - url: unix:/run/llama.sock
        slots: 64
      - url: http://10.0.0.5:8000/v1
        weight: 2
        model: meta-llama/Llama-3.1-8B
        api_key_env: UPSTREAM_KEY
        headers: {X-Team: research}
limits:
  max_body: 1MiB
  hold_timeout: 5s
  media_hosts: [images.example.com]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "routes.yaml"


def problems(file: Path, text: str) -> list[str]:
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        (read_keys if file.name.startswith("keys") else read_routes)(file)
    return [str(problem) for problem in refused.value.problems]


def test_everything_that_may_be_written_is_read(file: Path) -> None:
    file.write_text(WHOLE)
    (model,) = read_routes(file).models
    socket, tcp = model.upstreams
    assert (model.model_id, model.aliases, model.adapters) == ("llama", ("gpt-4o-mini",), ("llama-legal",))
    assert (model.context_length, model.owned_by) == (8192, "us")
    assert model.price == {"input_token": "0.0000002", "output_token": "0.0000006"}
    assert (socket.url, socket.slots, socket.weight, socket.model) == ("unix:/run/llama.sock", 64, 1.0, None)
    assert (tcp.url, tcp.weight, tcp.model) == ("http://10.0.0.5:8000", 2.0, "meta-llama/Llama-3.1-8B")
    assert tcp.headers == {"x-team": "research"}


def test_limits_are_those_of_the_gateway(file: Path) -> None:
    file.write_text(WHOLE)
    limits = read_routes(file).limits.limits()
    assert (limits.max_body_bytes, limits.hold_timeout_s) == (1 << 20, 5.0)
    assert limits.media_hosts == ("images.example.com",)


def test_limits_left_out_are_the_usual_ones(file: Path) -> None:
    from gateway.settings import Limits

    file.write_text("models: [{model_id: a, upstreams: [{url: 'http://h'}]}]")
    assert read_routes(file).limits.limits() == Limits()


def test_json_is_read_as_well(file: Path, tmp_path: Path) -> None:
    import yaml

    file.write_text(WHOLE)
    as_json = tmp_path / "routes.json"
    as_json.write_text(json.dumps(yaml.safe_load(WHOLE)))
    assert read_routes(as_json) == read_routes(file)


@pytest.mark.parametrize(("text", "said"), [
    ("{", "routes.json: is not valid JSON"),
    ('{"models": 1, "models": 2}', "the key 'models' is given twice"),
    ('{"models": []}', "models: is an empty list; add one"),
    ('{"models": [{"model_id": "a", "upstreams": [{"url": "ftp://h"}]}]}', "routes.json: models[0].upstreams[0].url: 'ftp://h'"),
    ("[" * 100_000, "routes.json: is not valid JSON"),
])  # fmt: skip
def test_what_is_wrong_with_json_is_said_by_field(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "routes.json"
    assert said in problems(file, text)[0]


def test_everything_wrong_is_said_at_once_by_line_and_field(file: Path) -> None:
    text = """
models:
  - model_id: a b
    capabilities: [generat]
    price: {input_tokn: 1}
    context_length: 0
    upstreams:
      - {url: http://h, wight: 2}
      - {url: http://h, api_key_env: sk-hunter2-abc, headers: {Host: x}}
limits: {max_body: 1MX}
"""
    said = problems(file, text)
    expected = [
        "routes.yaml:3: models[0].model_id: 'a b' is not a model's name",
        "routes.yaml:4: models[0].capabilities[0]: 'generat' is not a capability; did you mean generate?",
        "routes.yaml:5: models[0].price.input_tokn: 'input_tokn' is not possible; did you mean input_token?",
        "routes.yaml:6: models[0].context_length: 0 is not possible",
        "routes.yaml:8: models[0].upstreams[0].wight: is not a known key; did you mean weight?",
        "routes.yaml:9: models[0].upstreams[1].api_key_env: is not the name of an environment variable",
        "routes.yaml:9: models[0].upstreams[1].headers.Host: the header Host is set by the gateway itself",
        "routes.yaml:10: limits.max_body: '1MX' has the unknown unit 'MX'",
    ]
    for start in expected:
        assert any(line.startswith(start) for line in said), (start, said)
    assert len(said) == len(expected)
    assert "hunter2" not in "\n".join(said)


@pytest.mark.parametrize(("text", "said"), [
    ("", "is empty"),
    ("models: []", "models: is an empty list; add one"),
    ("models: [{model_id: a, upstreams: []}]", "models[0].upstreams: is an empty list; add one"),
    ("models: [{model_id: a}]", "models[0].upstreams: is missing; add it"),
    ("models: [{model_id: a, upstreams: [{url: 'http://h'}]}]\nlimits: {caps: {m: 1}}",
     "limits.caps.m: 'm' is not capped"),
    ("models: [{model_id: a, upstreams: [{url: 'http://h'}]}]\nlimits: {caps: {n: 0}}",
     "limits.caps.n: 0 is not possible"),
    ("models: [{model_id: a, upstreams: [{url: 'http://h', headers: sk-hunter2}]}]",
     "models[0].upstreams[0].headers: does not hold names and values"),
    ("limits: {}", "models: is missing; add it"),
    ("models: [{model_id: a, upstreams: [{url: 'http://h'}]}, "
     "{model_id: b, aliases: [a], upstreams: [{url: 'http://h'}]}]",
     "models[1].aliases[0]: 'a' is taken by models[0].model_id"),
    ("models: [{model_id: a, adapters: [a], upstreams: [{url: 'http://h'}]}]",
     "models[0].adapters[0]: 'a' is taken by models[0].model_id"),
    ("models: [{model_id: a, upstreams: [{url: 'http://h'}, {url: 'http://h:80/v1'}]}]",
     "models[0].upstreams[1]: http://h is named twice, first as upstreams[0]"),
    ("models: [{model_id: a, upstreams: [{url: 'http://h', weight: 0}]}]",
     "models[0].upstreams: every upstream has the weight 0"),
    ("models: [{model_id: a, upstreams: [{url: 'http://h', api_key_env: K, headers: {Authorization: x}}]}]",
     "models[0].upstreams[0]: has both api_key_env and a header authorization"),
    ("models: [{model_id: a, upstreams: [{url: 'http://h'}]}, "
     "{model_id: b, upstreams: [{url: 'http://h', headers: {x: y}}]}]",
     "models[1].upstreams[0]: http://h has other headers or another key than in models[0].upstreams[0]"),
])  # fmt: skip
def test_what_cannot_be_routed_is_refused(file: Path, text: str, said: str) -> None:
    (only,) = problems(file, text)
    assert said in only
    assert "hunter2" not in only


def test_one_url_may_serve_several_models(file: Path) -> None:
    file.write_text("""
models:
  - {model_id: a, upstreams: [{url: "http://h", api_key_env: K, model: x}, {url: "http://h", api_key_env: K, model: y}]}
  - {model_id: b, upstreams: [{url: "http://h/v1", api_key_env: K}]}
""")
    assert {each.url for model in read_routes(file).models for each in model.upstreams} == {"http://h"}


# -- keys ----------------------------------------------------------------------------------------------------------

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def test_keys_are_read(keys_file: Path) -> None:
    keys_file.write_text(f"keys: [{{name: shop, hash: {HASH}, weight: 3, priority: 10, scopes: [inference, admin]}}]")
    (key,) = read_keys(keys_file).keys
    assert (key.name, key.hash, key.weight, key.priority) == ("shop", HASH, 3.0, 10)
    assert key.scopes == ("inference", "admin")
    assert key.key_id == f"key_{HASH[:12]}"
    assert not key.revoked


def test_an_end_is_a_day_or_a_moment(keys_file: Path) -> None:
    for written in ("2026-12-31", "2026-12-31T00:00:00Z", "2026-12-31T01:00:00+01:00"):
        keys_file.write_text(f"keys: [{{name: shop, hash: {HASH}, expires: {written}}}]")
        (key,) = read_keys(keys_file).keys
        assert key.expires_unix_s == 1_798_675_200.0, written


@pytest.mark.parametrize(("text", "said"), [
    ("keys: []", "keys: is an empty list"),
    ("keys: [{name: a}]", "keys[0].hash: is missing"),
    ("keys: [{name: a, key: rh-hunter2}]", "keys[0]: holds the text of a key; write its hash: `roundhouse keys hash`"),
    ("keys: [{name: a, hash: rh-hunter2}]", "keys[0].hash: is not a SHA-256 in lower-case hex; `roundhouse keys hash`"),
    (f"keys: [{{name: a, hash: {HASH}, scopes: [root]}}]", "keys[0].scopes[0]: 'root' is not possible"),
    (f"keys: [{{name: a, hash: {HASH}, scopes: []}}]", "keys[0].scopes: is an empty list"),
    (f"keys: [{{name: a, hash: {HASH}, weight: 0}}]", "keys[0].weight"),
    (f"keys: [{{name: a, hash: {HASH}}}, {{name: b, hash: {HASH}}}]",
     "keys[1]: this key is listed twice, first as keys[0]"),
    (f"keys: [{{name: a, hash: {HASH}, id: x}}, {{name: b, hash: {'a' * 64}, id: x}}]",
     "keys[1]: the id 'x' is listed twice"),
])  # fmt: skip
def test_what_is_wrong_with_keys_is_said_without_them(keys_file: Path, text: str, said: str) -> None:
    (only,) = problems(keys_file, text)
    assert said in only
    assert "hunter2" not in only


# -- what is documented ------------------------------------------------------------------------------------------------

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "standalone.md"


def examples() -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)


def test_the_documents_examples_are_taken(file: Path, keys_file: Path) -> None:
    routes, keys = examples()
    file.write_text(routes)
    keys_file.write_text(keys)
    assert compile_table(read_routes(file), {"EXAMPLE_API_KEY": "sk"}, "routes.yaml").caps.n == 16
    assert [key.name for key in read_keys(keys_file).keys] == ["web shop", "scraper"]


@pytest.mark.parametrize("section", [ModelSettings, UpstreamSettings, LimitSettings])
def test_every_key_is_documented(section: type[BaseModel]) -> None:
    text = DOCUMENT.read_text()
    assert [name for name in section.model_fields if f"`{name}`" not in text] == []
