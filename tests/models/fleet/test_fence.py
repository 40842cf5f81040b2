"""Nodes obey the latest controller they have heard of, however often their actors are started anew."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.fleet.fence import Fence
from models.fleet.protocol import Superseded


def test_a_later_controller_is_obeyed_and_an_earlier_one_no_more(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "epoch")
    fence.obey(0)
    fence.obey(3)
    fence.obey(3)
    with pytest.raises(Superseded, match="a node obeys controller 3") as refused:
        fence.obey(2)
    assert refused.value.epoch == 3
    fence.obey(4)
    with pytest.raises(Superseded):
        fence.obey(3)


def test_a_claim_tells_what_was_and_changes_nothing_when_it_is_not_higher(tmp_path: Path) -> None:
    fence = Fence(tmp_path / "epoch")
    assert [fence.claim(epoch) for epoch in (5, 4, 5, 6, 0)] == [0, 5, 5, 5, 6]


def test_actors_of_one_node_share_it_and_a_new_one_knows_it(tmp_path: Path) -> None:
    Fence(tmp_path / "run" / "epoch").obey(7)
    with pytest.raises(Superseded):
        Fence(tmp_path / "run" / "epoch").obey(6)
    assert (tmp_path / "run" / "epoch").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("garbage", [b"", b"\0\0\0", b"twelve", b"9" * 64])
def test_a_file_that_holds_no_epoch_is_written_anew(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "epoch").write_bytes(garbage)
    fence = Fence(tmp_path / "epoch")
    if garbage.isdigit():
        with pytest.raises(Superseded):
            fence.obey(2)
    else:
        fence.obey(2)
        assert (tmp_path / "epoch").read_bytes() == b"2\n"


def test_what_it_raises_crosses_processes_as_it_is() -> None:
    crossed = pickle.loads(pickle.dumps(Superseded(9)))
    assert (type(crossed), crossed.epoch, str(crossed)) == (Superseded, 9, "a node obeys controller 9")


def _claim_all(path: str, epochs: list[int], before: multiprocessing.Queue[list[int]]) -> None:
    fence = Fence(Path(path))
    before.put([fence.claim(epoch) for epoch in epochs])


def test_of_two_processes_that_claim_the_same_epoch_one_gets_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[list[int]] = context.Queue()
    epochs = list(range(1, 200))
    args = (str(tmp_path / "epoch"), epochs, found)
    both = [context.Process(target=_claim_all, args=args) for _ in range(2)]
    for process in both:
        process.start()
    first, second = found.get(timeout=30), found.get(timeout=30)
    for process in both:
        process.join(30)
    won = [sum(before < epoch for before in pair) for epoch, *pair in zip(epochs, first, second, strict=True)]
    assert set(won) <= {0, 1}
    assert sum(won) >= len(epochs) / 2


@given(st.lists(st.integers(0, 9), max_size=30))
def test_what_is_obeyed_never_falls(tmp_path_factory: pytest.TempPathFactory, epochs: list[int]) -> None:
    fence = Fence(tmp_path_factory.mktemp("fence") / "epoch")
    highest = 0
    for epoch in epochs:
        if epoch < highest:
            with pytest.raises(Superseded):
                fence.obey(epoch)
        else:
            fence.obey(epoch)
            highest = epoch


def test_a_full_disk_does_not_make_a_node_forget_whom_it_obeys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fence = Fence(tmp_path / "epoch")
    fence.obey(6)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            fence.obey(7)
    with pytest.raises(Superseded):
        fence.obey(5)
