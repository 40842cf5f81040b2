"""A model is held to what it computed at first, whatever its outputs are made of."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.runtimes.protocol import EngineError
from models.runtimes.torch.canary import MOST_NUMBERS, TOLERANCE, Canary, Record, record_path


@dataclass(frozen=True)
class Output:
    vector: np.ndarray
    label: str


class Struct(msgspec.Struct):
    score: float


def alike(first, second):
    return Record.of(first).matches(Record.of(second))


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ([1.0, 2.0], [1.0, 2.0 + TOLERANCE], True),
        ([1.0, 2.0], [1.0, 2.0 + 3 * TOLERANCE], False),
        ([1.0, 2.0], [1.0], False),
        ([1.0, [2.0]], [1.0, 2.0], False),
        (torch.ones(3), torch.ones(3) * (1 + TOLERANCE / 2), True),
        (torch.ones(3, dtype=torch.bfloat16), torch.ones(3, dtype=torch.bfloat16), True),
        (torch.ones(3), torch.ones(3, 1), False),
        (torch.tensor([1, 2]), torch.tensor([1, 2]), True),
        ({"label": "cat", "score": 0.9}, {"label": "cat", "score": 0.9001}, True),
        ({"label": "cat", "score": 0.9}, {"label": "dog", "score": 0.9}, False),
        ({"a": 1}, {"b": 1}, False),
        (1, 2, False),
        (True, 1, False),
        (b"png", b"png", True),
        (b"png", b"jpg", False),
        (None, None, True),
        (np.array(["a"]), np.array(["a"]), True),
        (Output(np.ones(2), "x"), Output(np.ones(2), "x"), True),
        (Output(np.ones(2), "x"), Output(np.zeros(2), "x"), False),
        (Struct(0.5), Struct(0.6), False),
        ([float("nan"), 1.0], [float("nan"), 1.0], True),
        ([1.0], [float("nan")], False),
        (np.float32(0.5), np.float32(0.5), True),
    ],
)
def test_what_is_the_same(first, second, same):
    assert alike(first, second) == same


def test_of_a_large_output_a_sample_is_kept():
    picture = np.random.default_rng(0).random((512, 512))
    record = Record.of(picture)
    assert record.count == 512 * 512
    assert len(record.numbers) <= MOST_NUMBERS
    assert not alike(picture, picture[::-1].copy())


def test_what_cannot_be_compared_is_an_error():
    with pytest.raises(ValueError, match="a object in it cannot be compared"):
        Record.of([object()])


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_an_output_is_always_like_itself_also_after_it_was_stored(numbers):
    record = Record.of(numbers)
    assert record.matches(msgspec.json.decode(msgspec.json.encode(record), type=Record))


class TestCanary:
    def test_the_first_output_is_kept_and_held_against_the_later_ones(self, tmp_path):
        path = tmp_path / "layout" / "canary-x.json"
        first = Canary("Model", path)
        assert not first.read()
        assert first.keep([1.0, 2.0], [1.0, 2.0])
        later = Canary("Model", path)
        assert later.read()
        later.verify([1.0, 2.0])
        with pytest.raises(EngineError) as told:
            later.verify([1.0, 2.5])
        assert str(told.value) == "Model no longer computes for its example what it did at first"
        assert told.value.fault == "canary"
        assert [file.name for file in path.parent.iterdir()] == ["canary-x.json"]

    def test_without_a_folder_it_is_kept_for_the_engines_life(self):
        canary = Canary("Model", None)
        assert not canary.read()
        canary.verify([5.0])  # there is nothing to compare with so far
        assert canary.keep([1.0], [1.0])
        with pytest.raises(EngineError):
            canary.verify([2.0])

    def test_a_model_that_throws_dice_cannot_be_verified(self, tmp_path):
        canary = Canary("Model", tmp_path / "canary.json")
        assert not canary.keep([1.0], [2.0])
        assert not (tmp_path / "canary.json").exists()
        canary.verify([3.0])

    def test_a_damaged_record_is_made_anew(self, tmp_path):
        (tmp_path / "canary.json").write_text("{")
        canary = Canary("Model", tmp_path / "canary.json")
        assert not canary.read()
        assert canary.keep([1.0], [1.0])
        assert Canary("Model", tmp_path / "canary.json").read()


class Mine:
    pass


class Other:
    pass


def test_a_record_belongs_to_a_class_and_its_settings():
    assert record_path("", Mine(), {}) is None
    mine = record_path("/layouts/x", Mine(), {"steps": 4})
    assert mine is not None
    assert mine.parent.name == "x"
    assert mine == record_path("/layouts/x", Mine(), {"steps": 4})
    assert len({mine, record_path("/layouts/x", Mine(), {}), record_path("/layouts/x", Other(), {"steps": 4})}) == 3
