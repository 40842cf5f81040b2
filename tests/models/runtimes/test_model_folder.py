"""Damage in a model's folder is named before anything heavy reads it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from models.runtimes.model_folder import (
    check_tokenizer,
    read_config,
    read_header,
    read_json_list,
    tensor_bytes,
    weight_files,
)
from models.runtimes.protocol import EngineError

TENSORS: dict[str, Any] = {"a": np.ones((3, 4), dtype=np.float32), "b.weight": np.zeros(5, dtype=np.float16)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama", "limit": [0.0, Infinity]}')
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def test_a_sound_folder(folder):
    assert read_config(folder)["model_type"] == "llama"
    assert weight_files(folder) == [folder / "model.safetensors"]
    begin, header = read_header(folder / "model.safetensors")
    assert header["a"].shape == (3, 4)
    assert begin + 3 * 4 * 4 + 5 * 2 == (folder / "model.safetensors").stat().st_size


def test_missing_things_are_named(tmp_path):
    with pytest.raises(EngineError, match="gone does not exist"):
        read_config(tmp_path / "gone")
    with pytest.raises(EngineError, match=r"has no config\.json"):
        read_config(tmp_path)
    with pytest.raises(EngineError, match=r"has no \*\.safetensors"):
        weight_files(tmp_path)
    with pytest.raises(EngineError, match="has no tokenizer"):
        check_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', "\x00", "{'a': 1}"])
def test_a_config_that_is_no_object(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(EngineError, match=r"^config\.json cannot be read"):
        read_config(folder)


def test_a_config_that_is_not_text(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EngineError, match=r"^config\.json cannot be read"):
        read_config(folder)


def test_a_list_is_asked_for_and_checked(folder):
    (folder / "modules.json").write_text('[{"type": "Pooling"}]')
    assert read_json_list(folder / "modules.json") == [{"type": "Pooling"}]
    (folder / "modules.json").write_text("[1]")
    with pytest.raises(EngineError, match=r"modules\.json"):
        read_json_list(folder / "modules.json")


def test_a_vocabulary_is_enough_for_a_tokenizer(folder):
    (folder / "vocab.txt").write_text("a")
    check_tokenizer(folder)


def test_the_index_says_which_shards_there_must_be(folder):
    save_file({"c": np.ones(2, dtype=np.float32)}, folder / "two.safetensors")
    index = {"weight_map": {"a": "model.safetensors", "c": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert [file.name for file in weight_files(folder)] == ["model.safetensors", "two.safetensors"]
    (folder / "two.safetensors").unlink()
    with pytest.raises(EngineError, match=r"two\.safetensors is missing"):
        weight_files(folder)


SOUND = save(TENSORS)


@settings(deadline=None)
@given(st.integers(0, len(SOUND) - 1))
def test_every_truncation_is_noticed(tmp_path_factory, length):
    file = tmp_path_factory.mktemp("cut") / "model.safetensors"
    file.write_bytes(SOUND[:length])
    with pytest.raises(EngineError, match=r"^model\.safetensors is damaged"):
        read_header(file)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_never_weights(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("random") / "model.safetensors"
    file.write_bytes(content)
    with pytest.raises(EngineError, match="damaged"):
        read_header(file)


def test_trailing_bytes_are_noticed(folder):
    file = folder / "model.safetensors"
    with file.open("ab") as opened:
        opened.write(b"more")
    with pytest.raises(EngineError, match="its header promises"):
        weight_files(folder)


def test_what_may_not_be_read_is_named(folder, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(EngineError, match=r"model\.safetensors cannot be read: Permission denied"):
        read_header(folder / "model.safetensors")


def test_bytes_are_counted_in_the_type_that_the_model_will_have(folder):
    assert tensor_bytes(folder, 4) == 12 * 4 + 5 * 4
    assert tensor_bytes(folder, 2) == 12 * 2 + 5 * 2
    save_file({"q": np.ones(8, dtype=np.int8)}, folder / "quantized.safetensors")
    assert tensor_bytes(folder, 2) == 12 * 2 + 5 * 2 + 8
    assert tensor_bytes(folder / "none", 2) == 0
