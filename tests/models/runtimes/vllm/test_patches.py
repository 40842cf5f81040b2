"""Every private name of vLLM that the fast start rests on: this fails, and says which, when vLLM changes."""

from __future__ import annotations

import itertools
import sys
import types

import pytest

from models.runtimes.protocol import EngineError
from models.runtimes.vllm import patches as vllm_patches
from models.runtimes.vllm.inproc_client import InprocAsyncClient
from models.runtimes.vllm.patches import CALLED, PATCHES, KvTooSmall, PatchPoint, check_patch_points


@pytest.mark.parametrize("point", [*PATCHES, *CALLED], ids=str)
def test_vllm_has_the_name_with_the_parameters_that_we_use(point):
    assert vllm_patches._problem_with(point) is None


def test_all_of_them_together():
    assert check_patch_points() == []


@pytest.fixture
def stand_in(monkeypatch):
    """A module in vLLM's place."""
    made = types.ModuleType("stand_in")
    setattr(made, "changed", lambda other, names: None)  # noqa: B010 - a module has no such field for a type checker
    monkeypatch.setitem(sys.modules, "stand_in", made)
    return made


@pytest.mark.parametrize(
    ("point", "said"),
    [
        (PatchPoint("no.such.module", "f", ()), r"no\.such\.module\.f is gone \(No module named 'no'\)"),
        (PatchPoint("stand_in", "Class.method", ()), r"stand_in\.Class\.method is gone"),
        (PatchPoint("stand_in", "changed", ("fn",)), r"stand_in\.changed takes \(other, names\), expected \(fn\)"),
    ],
)
def test_what_has_changed_is_said(stand_in, monkeypatch, point, said):
    monkeypatch.setattr(vllm_patches, "CALLED", (point,))
    monkeypatch.setattr(vllm_patches, "_applied", [])
    with pytest.raises(EngineError, match=said):
        vllm_patches.apply()


def test_a_new_wish_of_asyncllm_is_noticed(monkeypatch):
    monkeypatch.delattr(InprocAsyncClient, "dp_engines_running")
    assert any("asks its client for dp_engines_running" in problem for problem in check_patch_points())


def test_the_architecture_is_inspected_in_this_process():
    assert vllm_patches._in_this_process(None)(lambda: 42) == 42


def test_kernels_are_bound_once():
    bound = []

    class Platform:
        register = vllm_patches._once_per_launcher(lambda: bound.append(1))

    Platform.register()
    Platform().register()
    assert bound == [1]


def test_what_is_the_same_for_every_engine_is_found_out_once():
    numbers = itertools.count()
    find = vllm_patches._once(lambda: next(numbers))
    assert (find(), find()) == (0, 0)

    class Serving:
        detect = vllm_patches._once_static(lambda template: f"{template}{next(numbers)}")

    assert (Serving.detect("a"), Serving().detect("a"), Serving.detect("b")) == ("a1", "a1", "b2")


def test_a_configuration_is_hashed_once_and_another_anew():
    numbers = itertools.count()
    build = vllm_patches._once_per_config(lambda config, mode, custom: (mode, next(numbers)))
    one, other = object(), object()
    assert [build(one), build(one), build(one, "hash"), build(other, "hash")] == [
        ("full", 0),
        ("full", 0),
        ("hash", 1),
        ("hash", 2),
    ]


def test_plugins_are_looked_for_when_they_are_named(monkeypatch):
    load = vllm_patches._if_named(lambda tasks: ["plugin"])
    monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    assert load(("generate",)) == []
    monkeypatch.setenv("VLLM_PLUGINS", "mine")
    assert load(("generate",)) == ["plugin"]


def test_a_processor_is_looked_for_where_there_is_one(tmp_path):
    look = vllm_patches._if_there_is_one(lambda tokenizer, **named: "template")
    tokenizer = types.SimpleNamespace(name_or_path=str(tmp_path))
    assert look(tokenizer, revision=None) is None
    (tmp_path / "preprocessor_config.json").write_text("{}")
    assert look(tokenizer, revision=None) == "template"
    tokenizer.name_or_path = "some/model"
    assert look(tokenizer, revision=None) == "template"


@pytest.mark.parametrize(
    ("available", "needed", "holds"), [(100, 150, 66), (0, 150, 0), (-16, 150, 0)], ids=["short", "none", "less"]
)
def test_a_small_cache_is_told_in_bytes(available, needed, holds):
    check = vllm_patches._tell_the_bytes(None)
    with pytest.raises(KvTooSmall) as told:
        check(available, lambda: needed, 2048, lambda _: 66)
    assert (told.value.usable_bytes, told.value.needed_bytes) == (available, needed)
    assert (told.value.holds_tokens, told.value.max_model_len) == (holds, 2048)


def test_a_large_enough_cache_passes():
    vllm_patches._tell_the_bytes(None)(150, lambda: 150, 2048, lambda _: 0)
