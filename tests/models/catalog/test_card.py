"""Model cards: what they mean, what they refuse, and when two of them are the same."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.catalog.card import ModelCard
from models.catalog.footprint import CUDA, SIMULATED
from models.catalog.source_info import SourceInfo
from packers.types import Footprint

MIB = 2**20
SMALLEST: dict[str, Any] = {"model_id": "tiny", "model_source": "models/tiny"}
SOURCE = SourceInfo(weights_bytes=10 * MIB, architectures=("LlamaForCausalLM",), max_model_len=2048, files=())


def card(**changes: Any) -> ModelCard:
    return ModelCard.model_validate({**SMALLEST, **changes})


def refusal(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        card(**changes)
    return str(caught.value)


def test_the_smallest_card_is_a_language_model_that_starts_on_demand():
    tiny = card()
    assert (tiny.runtime, tiny.min_replicas, tiny.max_replicas, tiny.ttl) == ("vllm", 0, 1, 600.0)
    assert (tiny.pinned, tiny.can_sleep, tiny.allow_code, tiny.served_names) == (False, True, None, ("tiny",))


def test_sizes_and_times_are_read_as_written():
    written = card(declared={"weights": "1GiB", "host": 0}, ttl="5m")
    assert (written.declared.weights, written.declared.host, written.ttl) == (2**30, 0, 300.0)


def test_a_card_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        card().priority = 3  # type: ignore[misc]


def test_a_card_survives_pickling():
    original = card(aliases=["a"], engine_args={"max_model_len": 512})
    original.hash  # noqa: B018 - fills the cache
    assert pickle.loads(pickle.dumps(original)) == original


@pytest.mark.parametrize("name", ["a", "A1", "org/name", "Qwen3-0.6B", "x" * 128, "a.b_c-d/e"])
def test_names_that_clients_can_use(name):
    assert card(model_id=name).model_id == name


@pytest.mark.parametrize(
    "name",
    ["", " a", "a b", "/a", "a/", "a//b", "a/../b", "a/./b", ".a", "-a", "x" * 129, "naïve", "a\n", "a:b", "a?b"],
)
def test_names_that_a_url_or_a_log_would_spoil(name):
    assert "is not a model id" in refusal(model_id=name)
    assert "is not a model id" in refusal(aliases=[name])


@pytest.mark.parametrize(
    "source", ["models/tiny", "/srv/models/tiny", "~/models/tiny", "hf://org/repo@main", "hf://o-1/r.2@refs/pr/3"]
)
def test_sources(source):
    assert card(model_source=source).model_source == source


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("a\0b", "is empty"),
        ("hf://org/repo", "write hf://org/repo@revision"),
        ("hf://repo@main", "write hf://org/repo@revision"),
        ("hf://org/repo@", "write hf://org/repo@revision"),
        ("hf://org/../repo@main", "write hf://org/repo@revision"),
        ("hf://org/repo@../../x", "write hf://org/repo@revision"),
        ("s3://bucket", "write s3://bucket/prefix"),
        ("s3://bucket/", "write s3://bucket/prefix"),
        ("s3://Bucket/model", "write s3://bucket/prefix"),
        ("s3://bucket/a/../b", "write s3://bucket/prefix"),
        ("https://example.com/model", "use a local folder, hf://org/repo@revision or s3://bucket/prefix"),
    ],
)
def test_sources_that_are_not_understood(source, said):
    assert said in refusal(model_source=source)


def test_replica_counts_fit_together():
    assert card(min_replicas=2, max_replicas=2).max_replicas == 2
    assert "1 is below min_replicas (3); set it to 3 or more" in refusal(min_replicas=3)
    assert "greater than or equal to 1" in refusal(max_replicas=0)
    assert "min_replicas" in refusal(min_replicas=-1)
    assert "min_replicas" in refusal(min_replicas="2")


def test_an_alias_is_another_name():
    assert card(aliases=["a", "b"]).served_names == ("tiny", "a", "b")
    assert "'tiny' names this model already" in refusal(aliases=["tiny"])
    assert "'a' names this model already" in refusal(aliases=["a", "a"])


def test_adapters_are_called_by_names_of_their_own():
    adapted = card(aliases=["a"], adapters={"org/pirate": "./pirate", "poet": "/srv/poet"})
    assert adapted.served_names == ("tiny", "a", "org/pirate", "poet")
    assert "'a' names the model itself" in refusal(aliases=["a"], adapters={"a": "./pirate"})
    assert "'tiny' names the model itself" in refusal(adapters={"tiny": "./pirate"})
    assert "is not a model id" in refusal(adapters={"a pirate": "./pirate"})
    assert "is not a folder" in refusal(adapters={"pirate": "hf://org/pirate"})
    assert "is not a folder" in refusal(adapters={"pirate": " "})
    assert "only the vllm runtime has adapters" in refusal(runtime="torch", adapters={"pirate": "./pirate"})
    assert "list them under adapters" in refusal(engine_args={"lora_modules": ["pirate=./pirate"]})


@pytest.mark.parametrize(
    ("written", "exact"),
    [("0.0000025", "0.0000025"), (0.1, "0.1"), (2.5e-7, "0.00000025"), (3, "3"), ("1e-6", "0.000001"), (0, "0")],
)
def test_prices_are_exact_however_they_are_written(written, exact):
    assert card(price={"input_token": written}).price == {"input_token": exact}


@pytest.mark.parametrize("price", [-1, "much", "", True, None, "nan", "inf", "1e10", "1e-400"])
def test_what_is_no_price(price):
    assert "is not a price" in refusal(price={"request": price})


def test_prices_are_per_known_unit():
    assert "input_token" in refusal(price={"token": 1})


def test_code_runs_only_by_name_and_only_in_the_torch_runtime():
    assert card(runtime="torch", allow_code="pkg.mod:Class").allow_code == "pkg.mod:Class"
    assert "only the torch runtime runs code by name" in refusal(allow_code="pkg:Class")
    for name in ("pkg.Class", "pkg:", ":Class", "os;system:X", "a b:C", "pkg:Class.method"):
        assert "does not name a class" in refusal(runtime="torch", allow_code=name)


def test_the_class_that_is_allowed_is_the_one_that_runs():
    allowed = card(runtime="torch", allow_code="pkg:Class", engine_args={"max_batch": 4})
    assert allowed.engine_args == {"max_batch": 4, "python_class": "pkg:Class"}
    for spelling in ("python_class", "python-class"):
        twice = card(runtime="torch", allow_code="pkg:Class", engine_args={spelling: "pkg:Class"})
        assert twice.engine_args == {"python_class": "pkg:Class"}
    assert ModelCard.model_validate(allowed.model_dump()) == allowed


@pytest.mark.parametrize("changes", [{}, {"allow_code": "pkg:Class"}])
def test_a_class_that_is_not_allowed_is_not_run(changes):
    said = refusal(runtime="torch", engine_args={"python_class": "os:Evil"}, **changes)
    assert "engine_args.python_class is 'os:Evil'; allow it: allow_code: os:Evil" in said


class TestEngineArguments:
    def test_they_are_written_either_way(self):
        assert card(engine_args={"max-model-len": 512, "dtype": "float32"}).engine_args == {
            "max_model_len": 512,
            "dtype": "float32",
        }

    @pytest.mark.parametrize(
        ("name", "cure"),
        [
            ("model", "name it in model_source"),
            ("served_model_name", "list other names under aliases"),
            ("--port", "engines listen on their own sockets"),
            ("api-key", "keys are checked by the gateway"),
            ("gpu_memory_utilization", "state declared.kv_cache instead"),
        ],
    )
    def test_what_the_service_decides_is_refused(self, name, cure):
        said = refusal(engine_args={name: "x"})
        assert "is decided by the service" in said
        assert cure in said

    @pytest.mark.parametrize(
        "args",
        [
            {"trust_remote_code": True},
            {"trust-remote-code": True},
            {"trust_remote_code": "yes"},
            {"worker_cls": "evil.Worker"},
            {"logits_processors": ["evil:P"]},
            {"speculative_config": {"model": "x", "trust_remote_code": True}},
            {"nested": [{"deeper": {"trust-remote-code": 1}}]},
            {"kv_transfer_config": {"kv_connector_module_path": "evil"}},
            {"--kv-transfer-config.kv-connector-module-path": "evil"},
        ],
    )
    def test_code_that_comes_with_a_model_is_refused(self, args):
        assert "would run code that comes with the model" in refusal(engine_args=args)

    def test_saying_no_to_code_is_allowed(self):
        assert card(engine_args={"trust_remote_code": False}).engine_args == {"trust_remote_code": False}

    @pytest.mark.parametrize("load_format", ["pt", "npcache", "evil_plugin", None, ["auto"]])
    def test_formats_that_may_be_pickled_are_refused(self, load_format):
        assert "may load pickled weights" in refusal(engine_args={"load_format": load_format})

    def test_safe_formats_are_allowed(self):
        assert card(engine_args={"load_format": "safetensors"}).engine_args["load_format"] == "safetensors"

    def test_a_name_given_twice(self):
        assert "max_model_len is given twice" in refusal(engine_args={"max-model-len": 1, "max_model_len": 2})

    def test_a_part_of_a_larger_argument(self):
        assert card(engine_args={"compilation-config.level": 3}).engine_args == {"compilation_config.level": 3}

    @pytest.mark.parametrize("name", ["", "Max", "a b", "x" * 90, "a.", ".a", "a..b", "1a"])
    def test_names_that_no_engine_has(self, name):
        assert "is not the name of an argument" in refusal(engine_args={name: 1})

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("inf")]}])
    def test_numbers_without_end(self, value):
        assert "is not a finite number" in refusal(engine_args={"x": value})

    def test_values_that_json_does_not_know(self):
        assert "not a valid JSON value" in refusal(engine_args={"x": object()})


class TestFootprint:
    def test_it_is_estimated_from_the_files(self):
        assert card().footprint(SOURCE) == Footprint(
            weights_bytes=10 * MIB,
            kv_cache_bytes=256 * MIB,
            overhead_bytes=64 * MIB,
            residue_bytes=0,
            host_bytes=10 * MIB,
        )

    def test_a_torch_model_has_no_kv_cache(self):
        assert card(runtime="torch").footprint(SOURCE).kv_cache_bytes == 0

    def test_what_is_declared_counts(self):
        declared = {"weights": 1, "kv_cache": 2, "overhead": 3, "residue": 4, "host": 5}
        for defaults in (SIMULATED, CUDA):
            assert card(declared=declared).footprint(SOURCE, defaults) == Footprint(1, 2, 3, 4, 5)

    def test_nothing_may_be_declared_too(self):
        assert card(declared={"kv_cache": 0, "overhead": 0, "host": 0}).footprint(SOURCE) == Footprint(10 * MIB, 0, 0)

    def test_host_memory_follows_declared_weights(self):
        assert card(declared={"weights": "20MiB"}).footprint(SOURCE).host_bytes == 20 * MIB

    def test_a_real_gpu_pays_for_its_context(self):
        footprint = card().footprint(SOURCE, CUDA)
        assert (footprint.overhead_bytes, footprint.residue_bytes) == (1536 * MIB, 1536 * MIB)

    def test_a_residue_is_never_estimated_above_what_was_held(self):
        small = card(declared={"weights": 1, "kv_cache": 1, "overhead": 1})
        assert small.footprint(SOURCE, CUDA).residue_bytes == 3

    def test_a_broken_source_counts_only_as_declared(self):
        assert card().footprint(None).weights_bytes == 0
        assert card(declared={"weights": 7}).footprint(None).weights_bytes == 7

    @given(
        st.dictionaries(st.sampled_from(["weights", "kv_cache", "overhead", "residue", "host"]), st.integers(0, 2**50)),
        st.sampled_from([SIMULATED, CUDA]),
        st.sampled_from(["vllm", "torch"]),
    )
    def test_whatever_is_declared_the_footprint_is_sound(self, declared, defaults, runtime):
        footprint = card(declared=declared, runtime=runtime).footprint(SOURCE, defaults)
        for kind, size_bytes in declared.items():
            assert getattr(footprint, f"{kind}_bytes") == size_bytes
        if "residue" not in declared:
            assert footprint.residue_bytes <= footprint.gpu_bytes


class TestHash:
    def test_it_does_not_depend_on_how_the_card_is_written(self):
        plain = card(ttl=300, declared={"weights": 2**30}, engine_args={"a": 1, "b": 2}, aliases=["x", "y"], priority=0)
        other = card(
            aliases=["y", "x"], engine_args={"b": 2, "a": 1}, declared={"weights": "1GiB"}, ttl="5m", min_replicas=0
        )
        assert plain.hash == other.hash
        assert plain.engine_hash == other.engine_hash

    def test_it_is_the_same_in_every_process_and_version(self):
        assert card().hash == "fde2cf41270420ae"

    @pytest.mark.parametrize(
        "change",
        [
            {"model_source": "models/other"},
            {"runtime": "torch"},
            {"engine_args": {"max_model_len": 1}},
            {"declared": {"kv_cache": 1}},
            {"aliases": ["other"]},
            {"adapters": {"pirate": "./pirate"}},
            {"repack": False},
        ],
    )
    def test_what_an_engine_depends_on_changes_both(self, change):
        assert card(**change).hash != card().hash
        assert card(**change).engine_hash != card().engine_hash

    @pytest.mark.parametrize(
        "change",
        [{"ttl": 1}, {"priority": 1}, {"min_replicas": 1}, {"max_replicas": 2}, {"pinned": True}, {"can_sleep": False}],
    )
    def test_how_it_is_scaled_needs_no_new_engine(self, change):
        assert card(**change).hash != card().hash
        assert card(**change).engine_hash == card().engine_hash

    def test_hashing_leaves_the_card_alone(self):
        original = card(aliases=["b", "a"])
        before = copy.deepcopy(original.aliases)
        assert original.hash
        assert original.aliases == before


def test_where_a_model_may_run_reaches_the_packer():
    placed = card(gpu_types=["NVIDIA H100"], affinity=["b"], anti_affinity=["tiny"])
    assert (placed.gpu_types, placed.affinity, placed.anti_affinity) == (("NVIDIA H100",), ("b",), ("tiny",))
    assert placed.engine_hash == card().engine_hash, "no engine has to be started again for it"


def test_an_engine_spans_one_gpu():
    assert card(tensor_parallel=1).tensor_parallel == 1
    assert "2 is not possible: an engine runs on one GPU" in refusal(tensor_parallel=2)


def test_the_kv_cache_may_be_less_when_memory_is_short():
    elastic = card(declared={"kv_cache": "1GiB", "kv_min": "256MiB"}).footprint(SOURCE)
    assert (elastic.kv_cache_bytes, elastic.kv_min_bytes) == (2**30, 2**28)
    assert card(declared={"kv_cache": "1GiB"}).footprint(SOURCE).kv_min_bytes is None


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"kv_cache": "1GiB", "kv_min": "2GiB"}, "2 GiB is above kv_cache, which is 1 GiB"),
        ({"kv_min": "2GiB"}, "2 GiB is above kv_cache, which is not declared"),
    ],
)
def test_the_least_kv_cache_is_no_more_than_the_wish(declared, said):
    assert said in refusal(declared=declared)


def test_how_long_a_request_should_wait_is_above_zero():
    assert card().max_wait is None
    assert card(max_wait="500ms").max_wait == 0.5
    assert "max_wait" in refusal(max_wait=0)
