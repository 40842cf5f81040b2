"""A layout's way from the engine that made it to the others."""

from __future__ import annotations

import torch

from models.runtimes.vllm.canary import Answer
from models.runtimes.vllm.layout import LayoutWriter, find_layout, layout_key, manifest_path
from models.runtimes.vllm.weights import LoadedWeights

FACTS = {"model": "a"}
KEY = layout_key(FACTS)
ANSWER = Answer(vector=(1.0, 2.0))
OTHER = Answer(vector=(3.0,))


def made(folder, settings="s"):
    writer = LayoutWriter(folder, KEY)
    layout = writer.write({"a": torch.ones(3)})
    return LoadedWeights(facts=FACTS, settings=settings, layout=layout, writer=writer, weights_bytes=12)


def test_what_is_verified_is_there_for_all(tmp_path):
    weights = made(tmp_path)
    assert weights.expected is None
    weights.publish(ANSWER)
    found = find_layout(tmp_path, KEY)
    assert found is not None
    assert found.manifest.weights_bytes == 12
    assert found.manifest.facts == FACTS
    assert weights.expected == found.manifest.answers["s"] == ANSWER


def test_what_cannot_be_verified_is_not(tmp_path):
    weights = made(tmp_path)
    weights.publish(None)
    assert find_layout(tmp_path, KEY) is None
    assert "nobody could verify it" in weights.why
    assert list(tmp_path.iterdir()) == []


def test_answers_under_other_settings_are_kept(tmp_path):
    made(tmp_path, "s").publish(ANSWER)
    made(tmp_path, "t").publish(OTHER)
    found = find_layout(tmp_path, KEY)
    assert found is not None
    assert found.manifest.answers == {"s": ANSWER, "t": OTHER}


def test_a_mapped_one_has_nothing_to_publish(tmp_path):
    made(tmp_path).publish(ANSWER)
    layout = find_layout(tmp_path, KEY)
    weights = LoadedWeights(how="mapped", settings="s", layout=layout)
    assert weights.publish(OTHER) is None
    assert weights.expected == ANSWER


def test_it_is_sealed_once(tmp_path):
    weights = made(tmp_path)
    weights.publish(ANSWER)
    weights.seal()
    assert weights.layout is not None
    digest = weights.layout.manifest.sha256
    assert digest
    path = manifest_path(weights.layout.path)
    written = path.stat().st_mtime_ns
    weights.seal()
    assert path.stat().st_mtime_ns == written


def test_one_that_was_evicted_meanwhile_is_not_sealed(tmp_path):
    weights = made(tmp_path)
    weights.publish(ANSWER)
    assert weights.layout is not None
    weights.layout.path.unlink()
    weights.seal()
    assert weights.layout.manifest.sha256 is None


def test_a_folder_that_is_gone_costs_the_layout_alone(tmp_path, caplog):
    folder = tmp_path / "gone"
    weights = made(folder)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert weights.publish(ANSWER) is None
    assert weights.writer is None
    assert "cannot be stored" in caplog.text
