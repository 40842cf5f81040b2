"""The configuration file: what it may hold, and what is said about every kind of mistake in it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.catalog.config import ConfigError, ServiceConfig, json_schema, load_config
from models.catalog.errors import UnitError
from models.catalog.gpus import SimulatedGpu

GIB = 2**30
FULL = """
gpus: {simulated: 2x512MiB}
host_memory: 4GiB
drain_timeout: 10s
gateway: {host: 0.0.0.0, port: 9000, hold_timeout: 2m, hold_limit: 5, max_body: 1MiB}
policies: {placement: first-fit, eviction: lru}
models_dir: cards
models:
  - {model_id: tiny, model_source: models/tiny, aliases: [small]}
  - model_id: embed
    model_source: models/embed
    runtime: torch
    declared: {weights: 90MB}
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes the configuration and, by name, files of its folder of cards; gives the path."""

    def _write(text: str, **cards: str) -> Path:
        path = tmp_path / "roundhouse.yaml"
        path.write_text(text)
        for name, card in cards.items():
            (tmp_path / "cards").mkdir(exist_ok=True)
            (tmp_path / "cards" / f"{name}.yaml").write_text(card)
        return path

    return _write


def problems(path: Path) -> list[tuple[str, str]]:
    """Field and full text of everything that is wrong."""
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert all(problem.message for problem in caught.value.problems)
    return [(problem.field, str(problem)) for problem in caught.value.problems]


def only_problem(path: Path) -> tuple[str, str]:
    found = problems(path)
    assert len(found) == 1, found
    return found[0]


class TestGoodFiles:
    def test_everything_is_read(self, write):
        config = load_config(write(FULL, more="- {model_id: c, model_source: x}\n- {model_id: d, model_source: x}"))
        assert config.simulated_gpus == (GIB // 2, GIB // 2)
        assert (config.host_memory, config.drain_timeout) == (4 * GIB, 10.0)
        gateway = config.gateway
        assert (gateway.host, gateway.port, gateway.hold_timeout) == ("0.0.0.0", 9000, 120.0)
        assert (gateway.hold_limit, gateway.max_body) == (5, 2**20)
        assert (config.policies.placement, config.policies.eviction) == ("first-fit", "lru")
        assert [card.model_id for card in config.models] == ["tiny", "embed", "c", "d"]

    def test_what_is_left_out_has_defaults(self, write):
        config = load_config(write("models: []"))
        assert (config.gpus, config.simulated_gpus, config.host_memory) == (None, None, None)
        assert (config.gateway.host, config.gateway.port) == ("127.0.0.1", 8000)
        assert (config.gateway.hold_timeout, config.gateway.hold_limit) == (120.0, 1024)
        assert config.gateway.max_body == 8 * 2**20
        assert (config.policies.placement, config.policies.eviction) == ("ours", "ours")

    def test_a_card_is_found_by_any_of_its_names(self, write):
        config = load_config(write(FULL, one="{model_id: c, model_source: x}"))
        assert config.card("small") is config.card("tiny") is config.models[0]
        assert config.card("c") is config.models[2]
        assert config.card("nobody") is None

    def test_real_gpus(self, write):
        config = load_config(write("{gpus: {real: true}, models: []}"))
        assert config.gpus is not None
        assert config.gpus.real
        assert config.simulated_gpus is None

    def test_gpus_can_be_named_over_it(self, write):
        config = load_config(write("{gpus: {real: true}, models: []}"))
        assert config.with_gpus("1x2GiB").simulated_gpus == (2 * GIB,)
        bus = config.with_gpus("1x2GiB@20GiB/s")
        assert bus.simulated == (SimulatedGpu(2 * GIB, 20.0 * GIB),)
        for each in (config, bus):
            assert ServiceConfig.model_validate(each.model_dump(mode="json")) == each
        with pytest.raises(UnitError, match="did you mean GiB"):
            config.with_gpus("1x2Gi")

    def test_host_memory_is_half_of_the_ram_unless_named(self, write):
        assert load_config(write("models: []")).host_bytes(ram_bytes=10) == 5
        assert load_config(write("{host_memory: 0, models: []}")).host_bytes(ram_bytes=10) == 0

    def test_a_folder_of_cards_alone(self, write):
        path = write("models_dir: cards", b="{model_id: b, model_source: x}", a="[{model_id: a, model_source: x}]")
        (path.parent / "cards" / "notes.txt").write_text("not a card")
        (path.parent / "cards" / ".hidden.yaml").write_text("not a card")
        (path.parent / "cards" / "c.yml").write_text("{model_id: c, model_source: x}")
        assert [card.model_id for card in load_config(path).models] == ["a", "b", "c"]

    def test_anchors_and_merges_share_settings(self, write):
        config = load_config(
            write("models:\n  - &base {model_id: a, model_source: x, ttl: 1m}\n  - {<<: *base, model_id: b, ttl: 2m}\n")
        )
        assert [(card.model_id, card.ttl) for card in config.models] == [("a", 60.0), ("b", 120.0)]

    def test_a_configuration_travels(self, write):
        config = load_config(write(FULL, one="{model_id: c, model_source: x}"))
        assert pickle.loads(pickle.dumps(config)) == config
        assert ServiceConfig.model_validate(json.loads(config.model_dump_json())) == config


class TestWrongValues:
    def test_a_nested_field_is_named_with_file_line_and_cure(self, write):
        path = write(
            "models:\n- {model_id: a, model_source: x}\n- model_id: b\n  model_source: x\n  declared:\n    weights: 1Gi"
        )
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        error = caught.value
        assert error.field == "models[1].declared.weights"
        assert error.message == "'1Gi' has the unknown unit 'Gi'"
        assert error.cure == "did you mean GiB?"
        assert str(error).startswith("roundhouse.yaml:6: models[1].declared.weights: '1Gi' has")

    def test_every_problem_is_listed(self, write):
        found = problems(
            write(
                "gpus: {simulated: none}\ngateway: {port: 99999, hold_time: 3}\nmodels:\n"
                "- {model_id: a b, model_source: s3://x, runtime: vlm, ttl: soon}\n- {model_id: c}\n- just text\n"
            )
        )
        assert [field for field, _ in found] == [
            "gpus.simulated",
            "gateway.port",
            "gateway.hold_time",
            "models[0].model_id",
            "models[0].model_source",
            "models[0].runtime",
            "models[0].ttl",
            "models[1].model_source",
            "models[2]",
        ]

    @pytest.mark.parametrize(
        ("text", "field", "said"),
        [
            ("{gpu: 1, models: []}", "gpu", "is not a known key; did you mean gpus?"),
            ("{gateway: {hold_timout: 1}, models: []}", "gateway.hold_timout", "did you mean hold_timeout?"),
            ("models: [{model_id: a, model_source: x, max-replicas: 2}]", "models[0].max-replicas", "max_replicas?"),
            (
                "models: [{model_id: a, model_source: x, declared: {kv: 1}}]",
                "models[0].declared.kv",
                "known here: host, kv",
            ),
            ("{xyz: 1, models: []}", "xyz", "drain_timeout, gateway, gpus"),
            ("models: [{model_id: a, model_source: x, runtime: vlm}]", "models[0].runtime", "did you mean vllm?"),
            ("{policies: {placement: bestfit}, models: []}", "policies.placement", "did you mean best-fit?"),
            ("{policies: {eviction: fifo}, models: []}", "policies.eviction", "known here: "),
            (
                "models: [{model_id: alpha, model_source: x, affinity: [alpah]}]",
                "models[0].affinity[0]",
                "did you mean alpha?",
            ),
            ("{policies: {scaling: concurency}, models: []}", "policies.scaling", "did you mean concurrency?"),
            ("{policies: {evcition: lru}, models: []}", "policies.evcition", "did you mean eviction?"),
            ("{policies: {look_at: 0}, models: []}", "policies.look_at", "choose another value"),
            ("{pools: [{name: spot, kind: rented, gpus: [a]}], models: []}", "pools[0].kind", "choose another value"),
            ("{pools: [{gpus: [a]}], models: []}", "pools[0].name", "add it"),
            (
                "{pools: [{name: spot, gpus: [a], price_per_gpu_hour: -1}], models: []}",
                "pools[0].price_per_gpu_hour",
                "choose another value",
            ),
            ("models: [{model_source: x}]", "models[0].model_id", "is missing; add it"),
            ("models: [{model_id: 7, model_source: x}]", "models[0].model_id", "put it in quotes"),
            ("models: [{model_id: no, model_source: x}]", "models[0].model_id", "False is not possible"),
            ("models:", "models", "is empty; give it a value, or remove the key"),
            ("{gateway: , models: []}", "gateway", "is empty"),
            ("models: {a: 1}", "models", "write a list"),
            ("{gateway: 3, models: []}", "gateway", "write keys and values below it"),
            ("{gateway: {port: '80'}, models: []}", "gateway.port", "write a whole number"),
            ("{gateway: {port: -1}, models: []}", "gateway.port", "greater than or equal to 0"),
            ("{gpus: {}, models: []}", "gpus", "names no GPUs; write either simulated: 2x1GiB or real: true"),
            ("{gpus: {real: false}, models: []}", "gpus", "names no GPUs"),
            ("{gpus: {real: true, simulated: 1GiB}, models: []}", "gpus", "both simulated and real"),
            ("{gpus: {simulated: 2x}, models: []}", "gpus.simulated", "write simulated GPUs like 2x1GiB"),
            ("{drain_timeout: .inf, models: []}", "drain_timeout", "write a duration like"),
            ("models: [{model_id: a, model_source: x, pinned: maybe}]", "models[0].pinned", "write true or false"),
            (
                "models: [{model_id: a, model_source: x, engine_args: {since: 2020-01-01}}]",
                "models[0].engine_args.since",
                "put it in quotes",
            ),
            (
                "models: [{model_id: a, model_source: x, engine_args: {trust_remote_code: true}}]",
                "models[0].engine_args.trust_remote_code",
                "would run code that comes with the model",
            ),
            (
                "models: [{model_id: a, model_source: x, aliases: [b, b]}]",
                "models[0].aliases[1]",
                "'b' names this model already",
            ),
            (
                "models: [{model_id: a, model_source: x, min_replicas: 2}]",
                "models[0].max_replicas",
                "below min_replicas",
            ),
            ("models: [{3: x, model_id: a, model_source: x}]", "models[0][3]", "put it in quotes"),
            ("gateway: {}", "", "names no models; add models: or models_dir:"),
            ("- a list", "", "does not hold keys and values"),
            ("just text", "", "does not hold keys and values"),
            ("models_dir: nowhere", "models_dir", "the folder 'nowhere' cannot be read (No such file or directory)"),
            ("{models_dir: '', models: []}", "models_dir", "at least 1 character"),
        ],
    )
    def test_each_mistake_has_its_cure(self, write, text, field, said):
        found_field, found_text = only_problem(write(text))
        assert found_field == field
        assert said in found_text

    def test_a_value_that_is_huge_is_shown_short(self, write):
        _, text = only_problem(write(f"models: [{{model_id: a, model_source: x, pinned: {'y' * 5000}}}]"))
        assert len(text) < 300


class TestNames:
    def test_an_id_is_given_once(self, write):
        path = write("models: [{model_id: a, model_source: x}, {model_id: a, model_source: y}]")
        assert only_problem(path) == (
            "models[1].model_id",
            "roundhouse.yaml:1: models[1].model_id: 'a' is taken by roundhouse.yaml models[0]; choose another name",
        )

    def test_an_alias_is_no_other_models_name(self, write):
        path = write(
            "models: [{model_id: a, model_source: x, aliases: [c]}, {model_id: b, model_source: y, aliases: [d, a, c]}]"
        )
        assert [field for field, _ in problems(path)] == ["models[1].aliases[1]", "models[1].aliases[2]"]

    def test_adapters_share_the_names_of_models(self, write):
        path = write(
            "models: [{model_id: a, model_source: x, adapters: {p: ./p}},"
            " {model_id: b, model_source: y, aliases: [p], adapters: {a: ./a}}]"
        )
        assert [field for field, _ in problems(path)] == ["models[1].aliases[0]", "models[1].adapters.a"]

    def test_names_are_unique_across_files(self, write):
        path = write(
            "{models_dir: cards, models: [{model_id: a, model_source: x}]}",
            one="{model_id: b, model_source: x, aliases: [a]}",
            two="- {model_id: b, model_source: x}",
        )
        assert problems(path) == [
            (
                "aliases[0]",
                "cards/one.yaml:1: aliases[0]: 'a' is taken by roundhouse.yaml models[0]; choose another name",
            ),
            ("[0].model_id", "cards/two.yaml:1: [0].model_id: 'b' is taken by cards/one.yaml; choose another name"),
        ]

    def test_shared_names_are_found_beside_other_mistakes(self, write):
        path = write("models: [{model_id: a, model_source: x}, {model_id: a, model_source: x, ttl: soon}]")
        assert [field for field, _ in problems(path)] == ["models[1].ttl", "models[1].model_id"]


class TestFiles:
    def test_problems_of_a_folder_name_the_file(self, write):
        path = write(
            "models_dir: cards",
            bad="model_id: a\nmodel_source: x\ndeclared:\n  weights: lots\n",
            broken="models: [",
            many="- {model_id: b, model_source: x}\n- {model_id: c, model_source: x, prio: 1}\n",
            words="hello",
        )
        assert [text.partition("; ")[0] for _, text in problems(path)] == [
            "cards/broken.yaml:1: is not valid YAML: while parsing a flow node expected the node content, "
            "but found '<stream end>' (line 1, column 10)",
            "cards/bad.yaml:4: declared.weights: 'lots' is not a size",
            "cards/many.yaml:2: [1].prio: is not a known key",
            "cards/words.yaml:1: 'hello' is not possible: keys and values are expected",
        ]

    def test_broken_yaml_is_named_by_line_and_column(self, write):
        path = write("models:\n  - model_id: a\n   model_source: x\n")
        field, text = only_problem(path)
        assert field == ""
        assert text.startswith("roundhouse.yaml:3: is not valid YAML: ")
        assert "(line 3, column 4)" in text

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("models: []\nmodels: []\n", "the key 'models' is given twice, first on line 1 (line 2, column 1)"),
            ("models: [{model_id: a, model_source: x, model_id: b}]", "the key 'model_id' is given twice"),
            ("", "is empty"),
            ("# only a remark\n", "is empty"),
            ("---\nmodels: []\n---\nmodels: []\n", "expected a single document"),
            ("models: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
            ("models: &a [*a]", "contains itself through an alias"),
            ("models: [*nobody]", "undefined alias"),
            ("models: 2020-13-45", "month must be in 1..12"),
            ("models: " + "[" * 3000, "nested too deeply"),
            ("\x07", "is not valid YAML"),
            (
                "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
                + "".join(
                    f"{n}: &{n} [{','.join(['*' + p] * 10)}]\n" for p, n in zip("abcdefg", "bcdefgh", strict=True)
                ),
                "holds more than 1000000 values",
            ),
        ],
    )
    def test_files_that_are_no_yaml_of_ours(self, write, text, said):
        assert said in only_problem(write(text))[1]

    def test_there_is_no_file(self, tmp_path):
        assert only_problem(tmp_path / "none.yaml") == ("", "none.yaml: there is no such file; check the path")

    def test_the_file_is_a_folder(self, tmp_path):
        assert "cannot be read (Is a directory)" in only_problem(tmp_path)[1]

    def test_the_file_is_not_text(self, tmp_path):
        (tmp_path / "x.yaml").write_bytes(b"models: [\xff\xfe]")
        assert "is not UTF-8 text (byte 9)" in only_problem(tmp_path / "x.yaml")[1]

    def test_a_byte_order_mark_is_no_mistake(self, tmp_path):
        (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfmodels: []")
        assert load_config(tmp_path / "x.yaml").models == ()


class TestSchema:
    def test_a_full_file_fits_the_schema(self):
        jsonschema.Draft202012Validator.check_schema(json_schema())
        jsonschema.validate(yaml.safe_load(FULL), json_schema())

    @pytest.mark.parametrize(
        "text",
        [
            "{gpus: {simulated: 3}}",
            "{gatewy: {}}",
            "models: [{model_id: a}]",
            "models: [{model_id: a b, model_source: x}]",
            "models: [{model_id: a, model_source: x, ttl: soon}]",
            "models: [{model_id: a, model_source: x, declared: {weights: lots}}]",
        ],
    )
    def test_an_editor_would_show_the_mistake(self, text):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(text), json_schema())

    def test_it_is_plain_json_with_words_for_people(self):
        schema = json.loads(json.dumps(json_schema()))
        assert schema["$schema"].startswith("https://json-schema.org/")
        assert "description" in schema["properties"]["models_dir"]


def mutated(config: Any, path: list[int], value: Any) -> Any:
    """``config`` with one value, found by following ``path``, replaced."""
    if not path or not isinstance(config, dict | list) or not config:
        return value
    keys = list(config) if isinstance(config, dict) else list(range(len(config)))
    key = keys[path[0] % len(keys)]
    copy = config.copy()
    copy[key] = mutated(config[key], path[1:], value)
    return copy


values: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just([]) | st.just({"x": [1]})
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(path=st.lists(st.integers(0, 9), min_size=1, max_size=5), value=values)
def test_whatever_is_wrong_is_taken_or_explained(tmp_path, path, value):
    whole = yaml.safe_load(FULL.replace("models_dir: cards\n", ""))
    file = tmp_path / "fuzz.yaml"
    file.write_text(yaml.safe_dump(mutated(whole, path, value), allow_unicode=True))
    try:
        load_config(file)
    except ConfigError as error:
        for problem in error.problems:
            assert problem.message
            assert problem.cure
            assert problem.file == "fuzz.yaml"
