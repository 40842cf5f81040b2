"""Cards as the loop sees them: with what their folders hold, also when that cannot be served."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.catalog.card import ModelCard
from models.catalog.footprint import CUDA, SIMULATED
from models.catalog.source import SourceError
from models.control.catalog import CatalogReader
from models.control.history import History
from models.demo.make import make_demo_models
from packers.autoscale.context import Scale, ScaleContext
from packers.load import Aim
from packers.scaled import Answers, scaled
from packers.state import State
from packers.types import Demand, ModelId
from tests.packers.worlds import ASLEEP, NOW_S, replica, world

MIB = 1 << 20


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    make_demo_models(made, only=["tiny-llama"], progress=lambda _: None)
    return made


def test_what_is_not_declared_comes_from_the_folder_and_the_kind_of_gpu(root: Path, tmp_path: Path) -> None:
    card = ModelCard(model_id="m", model_source="tiny-llama")
    simulated = CatalogReader(root, tmp_path, SIMULATED).entry(card)
    weights = sum(file.stat().st_size for file in (root / "tiny-llama").glob("*.safetensors"))
    assert simulated.footprint.weights_bytes == pytest.approx(weights, rel=0.01)
    assert simulated.footprint.overhead_bytes == 64 * MIB
    assert simulated.max_model_len == 2048
    assert simulated.created_unix_s == int((root / "tiny-llama" / "config.json").stat().st_mtime)
    assert CatalogReader(root, tmp_path, CUDA).entry(card).footprint.residue_bytes > 0


def test_an_asked_length_goes_first(root: Path, tmp_path: Path) -> None:
    card = ModelCard(model_id="m", model_source="tiny-llama", engine_args={"max_model_len": 512})
    assert CatalogReader(root, tmp_path, SIMULATED).entry(card).max_model_len == 512


def test_a_card_without_its_folder_stays_and_says_why_when_it_is_to_start(tmp_path: Path) -> None:
    reader = CatalogReader(tmp_path, tmp_path, SIMULATED)
    card = ModelCard(model_id="m", model_source="gone")
    (entry,) = reader.entries([card]).values()
    assert (entry.id, entry.footprint.weights_bytes, entry.created_unix_s) == ("m", 0, 0)
    with pytest.raises(SourceError, match="does not exist"):
        reader.inspect(card)


def test_the_model_that_policies_see_carries_the_cards_rules(tmp_path: Path) -> None:
    card = ModelCard(model_id="m", model_source="gone", ttl="2m", priority=3, min_replicas=1, max_replicas=4)
    entry = CatalogReader(tmp_path, tmp_path, SIMULATED).entry(card)
    model = entry.as_model(Demand(held=2), 7.0, History())
    assert (model.ttl_s, model.priority, model.min_replicas, model.max_replicas) == (120.0, 3, 1, 4)
    assert (model.demand.held, model.retry_at_s) == (2, 7.0)
    assert model.wait_s is None
    hurried = CatalogReader(tmp_path, tmp_path, SIMULATED).entry(card.model_copy(update={"max_wait": 0.5}))
    assert hurried.as_model(Demand(), 0.0, History()).wait_s == 0.5
    assert hurried.aim(History(), asleep=True).wait_s == 0.5
    record = entry.as_record(None)
    assert (record.ttl_s, record.card_hash, record.failure) == (120.0, card.engine_hash, None)


def test_load_is_followed_for_the_very_aim_that_decisions_ask_about(tmp_path: Path) -> None:
    """For the tier that the next replica would come from, with the times that were measured."""
    history = History()
    history.took(ModelId("m"), "start", "disk", 6.0)
    history.took(ModelId("m"), "wake", "host", 0.5)
    for max_wait in (None, 0.7):
        card = ModelCard(model_id="m", model_source="gone", target_in_flight=7, max_replicas=2)
        entry = CatalogReader(tmp_path, tmp_path, SIMULATED).entry(card.model_copy(update={"max_wait": max_wait}))
        for asleep in (False, True):
            seen: list[Aim] = []

            def policy(context: ScaleContext, seen: list[Aim] = seen) -> Scale:
                seen.append(context.aim)
                return Scale(1, "", context.memory)

            state = State.of(world({"n/0": 100}, [], [replica("m", "n/0", 60, ASLEEP)] if asleep else []))
            state.put_model(entry.as_model(Demand(held=1), 0.0, history))
            state.settle()
            scaled(state, NOW_S, policy, Answers())
            assert seen == [entry.aim(history, asleep=asleep)]
            assert seen[0].start_s == (0.5 if asleep else 6.0)
