"""Layouts on the disk: what is written is what is mapped, and what is damaged counts as absent."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from models.runtimes.vllm.canary import Answer
from models.runtimes.vllm.layout import (
    ALIGNMENT,
    CHUNK_BYTES,
    DTYPES,
    FORMAT,
    PAGE,
    LayoutWriter,
    Manifest,
    find_layout,
    layout_key,
    manifest_path,
    seal,
    write_manifest,
)

KEY = layout_key({"model": "a"})
ANSWER = Answer(best=(3,), second=(5,), best_logprobs=(-0.5,), second_logprobs=(-2.0,), given=(-9.0,))
TENSORS = {
    "table": torch.arange(40, dtype=torch.float32).reshape(5, 8).bfloat16(),
    "odd": torch.tensor([1, 2, 3], dtype=torch.uint8),
    "scalar": torch.tensor(7.5),
    "flags": torch.tensor([True, False]),
    "counts": torch.arange(9).reshape(3, 3),
}


def stored(folder, tensors=None, key=KEY):
    """A published layout's path."""
    writer = LayoutWriter(folder, key)
    layout = writer.write(TENSORS if tensors is None else tensors)
    return writer.publish(msgspec.structs.replace(layout.manifest, answers={"s": ANSWER}))


def test_what_was_written_is_what_is_mapped(tmp_path):
    stored(tmp_path / "new")
    layout = find_layout(tmp_path / "new", KEY)
    assert layout is not None
    file, tensors = layout.mapped()
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype is tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert layout.manifest.answers == {"s": ANSWER}
    assert file.size_bytes == layout.path.stat().st_size


def test_any_safetensors_reader_can_read_it(tmp_path):
    tensors = load_file(stored(tmp_path))
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_every_tensor_begins_at_a_cache_line_and_the_data_at_a_page(tmp_path):
    stored(tmp_path)
    layout = find_layout(tmp_path, KEY)
    assert layout is not None
    assert layout.begin % PAGE == 0
    assert all((layout.begin + entry.data_offsets[0]) % ALIGNMENT == 0 for entry in layout.entries.values())


def test_more_than_one_chunk(tmp_path):
    large = {"a": torch.randn(3, CHUNK_BYTES // 8), "b": torch.ones(5), "c": torch.randn(CHUNK_BYTES // 3)}
    stored(tmp_path, large)
    layout = find_layout(tmp_path, KEY)
    assert layout is not None
    file, tensors = layout.mapped()
    file.populate()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in large.items())


def test_writing_to_a_mapped_tensor_changes_nobody_elses(tmp_path):
    path = stored(tmp_path)
    before = path.read_bytes()
    layout = find_layout(tmp_path, KEY)
    assert layout is not None
    (_, mine), (_, others) = layout.mapped(), layout.mapped()
    mine["table"].zero_()
    assert torch.equal(others["table"], TENSORS["table"])
    assert path.read_bytes() == before


def test_a_file_that_is_evicted_stays_mapped(tmp_path):
    path = stored(tmp_path)
    layout = find_layout(tmp_path, KEY)
    assert layout is not None
    _, tensors = layout.mapped()
    path.unlink()
    manifest_path(path).unlink()
    assert torch.equal(tensors["table"], TENSORS["table"])
    assert find_layout(tmp_path, KEY) is None


def truncated(path):
    os.truncate(path, path.stat().st_size - 1)


def longer(path):
    with path.open("ab") as file:
        file.write(b"x")


def broken_header(path):
    with path.open("r+b") as file:
        file.seek(8)
        file.write(b"#")


def another_type(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"dtype": "BF16"', b'"dtype": "F32", ').replace(b",, ", b",  "))


def no_manifest(path):
    manifest_path(path).unlink()


def foreign_manifest(path):
    found = msgspec.json.decode(manifest_path(path).read_bytes(), type=Manifest)
    write_manifest(path, msgspec.structs.replace(found, key="another"))


def older_manifest(path):
    found = msgspec.json.decode(manifest_path(path).read_bytes(), type=Manifest)
    write_manifest(path, msgspec.structs.replace(found, format=FORMAT - 1))


def half_a_manifest(path):
    manifest_path(path).write_bytes(manifest_path(path).read_bytes()[:40])


def another_boot(path):
    found = msgspec.json.decode(manifest_path(path).read_bytes(), type=Manifest)
    write_manifest(path, msgspec.structs.replace(found, boot="before the power went"))


def fewer_tensors(path):
    found = msgspec.json.decode(manifest_path(path).read_bytes(), type=Manifest)
    write_manifest(path, msgspec.structs.replace(found, tensors=found.tensors + 1))


def empty(path):
    os.truncate(path, 0)


DAMAGES = (
    truncated,
    longer,
    broken_header,
    another_type,
    no_manifest,
    foreign_manifest,
    older_manifest,
    half_a_manifest,
    another_boot,
    fewer_tensors,
    empty,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_layout_counts_as_none_and_is_told(tmp_path, caplog, damage):
    path = stored(tmp_path)
    damage(path)
    with caplog.at_level(logging.WARNING, "roundhouse.engine"):
        assert find_layout(tmp_path, KEY) is None
    assert f"the stored layout {KEY} is not used" in caplog.text


def test_where_there_is_none_nothing_is_told(tmp_path, caplog):
    assert find_layout(tmp_path / "nowhere", KEY) is None
    assert not caplog.text


def test_nobody_sees_a_layout_before_it_is_published(tmp_path):
    writer = LayoutWriter(tmp_path, KEY)
    layout = writer.write(TENSORS)
    assert find_layout(tmp_path, KEY) is None
    assert torch.equal(layout.mapped()[1]["table"], TENSORS["table"])
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    killed = LayoutWriter(tmp_path, KEY)
    killed.write(TENSORS)
    alive = LayoutWriter(tmp_path, KEY)
    alive.write(TENSORS)
    assert killed.path.exists()  # both hold their locks
    fcntl.flock(killed._file, fcntl.LOCK_UN)  # as the kernel does when a process ends
    LayoutWriter(tmp_path, KEY)
    assert not killed.path.exists()
    assert alive.path.exists()


def test_of_two_writers_the_last_wins_and_both_go_on(tmp_path):
    writers = [LayoutWriter(tmp_path, KEY), LayoutWriter(tmp_path, KEY)]
    layouts = [writer.write({"a": torch.ones(3)}) for writer in writers]
    mapped = [layout.mapped()[1]["a"] for layout in layouts]
    for writer, layout in zip(writers, layouts, strict=True):
        writer.publish(msgspec.structs.replace(layout.manifest, key=KEY))
    assert find_layout(tmp_path, KEY) is not None
    assert all(torch.equal(tensor, torch.ones(3)) for tensor in mapped)


def test_a_sealed_layout_has_its_hash(tmp_path):
    path = stored(tmp_path)
    layout = find_layout(tmp_path, KEY)
    assert layout is not None
    assert layout.manifest.sha256 is None
    sealed = seal(path, layout.manifest)
    assert sealed.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    found = find_layout(tmp_path, KEY)
    assert found is not None
    assert found.manifest == sealed


def test_a_sealed_layout_outlives_the_machines_restart(tmp_path):
    path = stored(tmp_path)
    layout = find_layout(tmp_path, KEY)
    assert layout is not None
    sealed = seal(path, layout.manifest)
    write_manifest(path, msgspec.structs.replace(sealed, boot="an earlier one"))
    assert find_layout(tmp_path, KEY) is not None


def test_a_layout_that_was_replaced_meanwhile_is_not_sealed(tmp_path):
    path = stored(tmp_path)
    layout = find_layout(tmp_path, KEY)
    assert layout is not None
    newer = msgspec.structs.replace(layout.manifest, facts={"newer": "yes"})
    write_manifest(path, newer)
    seal(path, layout.manifest)
    found = find_layout(tmp_path, KEY)
    assert found is not None
    assert found.manifest == newer


def test_the_manifest_can_be_read_by_people(tmp_path):
    words = json.loads(manifest_path(stored(tmp_path)).read_text())
    assert words["key"] == KEY
    assert words["tensors"] == len(TENSORS)


def test_a_type_without_a_name_is_refused(tmp_path):
    writer = LayoutWriter(tmp_path, KEY)
    with pytest.raises(ValueError, match=r"c is torch\.complex64"):
        writer.write({"c": torch.zeros(2, dtype=torch.complex64)})
    writer.abandon()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        LayoutWriter(tmp_path / "file", KEY)


def test_the_key_follows_from_the_facts_alone():
    assert layout_key({"a": "1", "b": "2"}) == layout_key({"b": "2", "a": "1"})
    assert layout_key({"a": "1"}) != layout_key({"a": "2"})
    assert layout_key({"a": "1"}).isalnum()


shapes = st.lists(st.integers(0, 7), max_size=3)


@given(st.lists(st.tuples(st.sampled_from(list(DTYPES)), shapes), min_size=1, max_size=6))
def test_tensors_of_any_shape_and_type_come_back(tmp_path_factory, wanted):
    folder = tmp_path_factory.mktemp("layout")
    tensors = {f"t{i}": torch.ones(shape, dtype=dtype) * i for i, (dtype, shape) in enumerate(wanted)}
    tensors = {name: tensor.to(dtype) for (name, tensor), (dtype, _) in zip(tensors.items(), wanted, strict=True)}
    stored(folder, tensors)
    layout = find_layout(folder, KEY)
    assert layout is not None
    for name, tensor in layout.mapped()[1].items():
        assert tensor.dtype is tensors[name].dtype
        assert torch.equal(tensor, tensors[name])
