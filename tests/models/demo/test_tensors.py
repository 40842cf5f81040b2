"""bf16 without torch gives what torch gives, and the files are what the safetensors library reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from models.demo.tensors import ALIGNMENT_BYTES, Bf16, Tensor, generator, normal, to_bf16, write_safetensors

finite = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**100), max_value=2.0**100)


def values(bits: Bf16) -> torch.Tensor:
    return torch.from_numpy(bits.copy()).view(torch.bfloat16)


@settings(deadline=None)
@given(st.lists(finite, min_size=1))
@example([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 0.0, -0.0])  # halfway between two neighbours: the even one
def test_rounding_is_that_of_torch(numbers: list[float]) -> None:
    expected = torch.tensor(numbers, dtype=torch.float32).to(torch.bfloat16)
    assert torch.equal(values(to_bf16(np.array(numbers))).view(torch.int16), expected.view(torch.int16))


def test_normal_values_are_normal() -> None:
    drawn = values(normal(generator(1, "weight"), (400, 500), 0.02)).float()
    assert abs(float(drawn.mean())) < 2e-4
    assert float(drawn.std()) == pytest.approx(0.02, rel=0.01)
    share_within_one_deviation = float((drawn.abs() < 0.02).float().mean())
    assert share_within_one_deviation == pytest.approx(0.683, abs=0.01)


def test_seed_and_name_alone_decide_what_is_drawn() -> None:
    def drawn(seed: int, name: str) -> bytes:
        return normal(generator(seed, name), (16, 16), 1.0).tobytes()

    assert drawn(1, "a") == drawn(1, "a")
    assert len({drawn(1, "a"), drawn(1, "b"), drawn(2, "a")}) == 3


def test_nothing_can_be_drawn_too() -> None:
    assert normal(generator(1, "none"), (8, 0), 1.0).shape == (8, 0)


def test_what_was_written_is_read_by_the_library(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype=np.float64).reshape(2, 3)
    file = tmp_path / "model.safetensors"
    write_safetensors(
        file, [Tensor("a", (2, 3), lambda: to_bf16(numbers)), Tensor("b", (1,), lambda: to_bf16(numbers[0, :1]))]
    )
    with safe_open(file, framework="pt") as read:
        assert read.metadata() == {"format": "pt"}
        assert sorted(read.keys()) == ["a", "b"]
        assert read.get_tensor("a").dtype == torch.bfloat16
        assert read.get_tensor("a").tolist() == numbers.tolist()


def test_the_data_begins_on_a_cache_line(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    for name in ("a", "a-longer-name", "a-name-that-is-longer-still"):
        write_safetensors(file, [Tensor(name, (4,), lambda: to_bf16(np.ones(4)))])
        header_bytes = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        assert header_bytes % ALIGNMENT_BYTES == 0


def test_a_tensor_of_another_shape_than_stated_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"odd: made uint16 \(3,\), stated \(4,\)"):
        write_safetensors(tmp_path / "model.safetensors", [Tensor("odd", (4,), lambda: to_bf16(np.ones(3)))])
