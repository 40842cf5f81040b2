"""Which model's files are served by those that are started."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.compare import weights as module
from loadtests.compare.problems import CannotCompare
from loadtests.compare.weights import TINY, weights_of
from loadtests.load.settings import SettingsError
from loadtests.target import Target
from tests.loadtests.fake_service import FakeModel, FakeService

NOWHERE = Path("/nowhere")


def test_a_folder_that_is_named_is_served_under_its_own_name_or_as_told(weights: Path) -> None:
    assert weights_of((), weights, None, NOWHERE) == ("llama", weights)
    assert weights_of(("mine",), weights, None, NOWHERE) == ("mine", weights)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotCompare, match=f"--weights {tmp_path}: .*no config.json"):
        weights_of((), tmp_path, None, NOWHERE)


def test_the_running_service_says_where_its_model_is(weights: Path) -> None:
    service = FakeService({"minilm": FakeModel(runtime="torch"), "llama": FakeModel(), "qwen": FakeModel()})
    service.sources = {"llama": str(weights), "qwen": "hf://org/qwen@main"}
    with service.running():
        assert weights_of((), None, service.target, NOWHERE) == ("llama", weights)
        assert weights_of(("llama",), None, service.target, NOWHERE) == ("llama", weights)
        with pytest.raises(CannotCompare, match=r"has qwen from hf://org/qwen@main: name its folder with --weights"):
            weights_of(("qwen",), None, service.target, NOWHERE)
        with pytest.raises(CannotCompare, match="no model none"):
            weights_of(("none",), None, service.target, NOWHERE)
        with pytest.raises(CannotCompare, match="does not tell where its models are: 401"):
            weights_of((), None, Target(service.target.url, service.target.api_key, "wrong"), NOWHERE)


def test_without_a_service_a_tiny_model_is_made(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, list[str]]] = []

    def make(root: Path, names: list[str]) -> dict[str, Path]:
        asked.append((root, names))
        return dict.fromkeys(names, weights)

    monkeypatch.setattr(module, "make_models", make)
    assert weights_of((), None, None, tmp_path) == (TINY, weights)
    assert weights_of((TINY,), None, None, tmp_path) == (TINY, weights)
    assert asked == [(tmp_path, [TINY])] * 2
    with pytest.raises(CannotCompare, match="no service runs that has big: name its folder with --weights DIR, or"):
        weights_of(("big",), None, None, tmp_path)


def test_one_model_is_served_not_several(weights: Path) -> None:
    with pytest.raises(SettingsError, match="name one in --models"):
        weights_of(("a", "b"), weights, None, NOWHERE)
