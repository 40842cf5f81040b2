"""What a controller knows of a source that it has no copy of."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.catalog.capabilities import capabilities_of
from models.catalog.card import ModelCard
from models.catalog.errors import SourceError
from models.catalog.known import KnownSources, facts_of
from tests.models.catalog.folders import model_folder

URL = "hf://org/tiny@main"


def card(**more: object) -> ModelCard:
    return ModelCard.model_validate({"model_id": "tiny", "model_source": URL, **more})


def test_what_one_node_has_told_of_is_found_by_the_sources_whole_name(tmp_path: Path) -> None:
    facts = facts_of(card(), model_folder(tmp_path / "there"))
    known = KnownSources(tmp_path / "store")
    assert known.find(URL) is None
    assert known.learn(URL, facts)
    found = KnownSources(tmp_path / "store").find(URL)
    assert found is not None
    assert found[0].info == facts.info
    assert (found[0].weights_bytes > 0, found[0].max_model_len) == (True, 2048)
    assert capabilities_of(card(), found[1]) == ("generate", "tokenize")
    assert known.find("hf://org/other@main") is None


def test_only_another_content_is_news(tmp_path: Path) -> None:
    known, folder = KnownSources(tmp_path / "store"), model_folder(tmp_path / "there")
    first = facts_of(card(), folder)
    assert known.learn(URL, first)
    assert not known.learn(URL, first)
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("2048", "4096"))
    assert known.learn(URL, facts_of(card(), folder))
    found = known.find(URL)
    assert found is not None
    assert found[0].max_model_len == 4096
    assert found[0].created_unix_s == first.created_unix_s


def test_a_folder_that_cannot_be_served_tells_nothing(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "there")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match="no tokenizer"):
        facts_of(card(), folder)
