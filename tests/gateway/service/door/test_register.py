"""Names: one machine each, kept while it is heard, known again after the door was started anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.service.door.register import HEARD_S, Named, Register, Taken

A, OTHER = Named("id-a", "10.0.0.2"), Named("id-o", "10.0.0.3")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "nodes.json"


def register(path: Path, now_s: float = 0.0) -> Register:
    return Register(path, "head", "10.0.0.1", now_s)


def test_a_name_belongs_to_one_machine(path: Path) -> None:
    names = register(path)
    names.hello("a", A, 0)
    names.hello("a", A, 1)
    with pytest.raises(Taken) as taken:
        names.hello("a", OTHER, 2)
    assert (taken.value.name, taken.value.address) == ("a", "10.0.0.2")


def test_asking_for_a_name_does_not_take_it(path: Path) -> None:
    names = register(path)
    names.check("a", A, 0)
    names.hello("a", OTHER, 0)
    with pytest.raises(Taken):
        names.check("a", A, 1)


def test_the_heads_own_name_is_never_free(path: Path) -> None:
    with pytest.raises(Taken) as taken:
        register(path).hello("head", A, 1e9)
    assert taken.value.address == "10.0.0.1"


def test_a_machine_that_is_silent_loses_its_name(path: Path) -> None:
    names = register(path)
    names.hello("a", A, 0)
    names.hello("a", OTHER, HEARD_S)
    with pytest.raises(Taken):
        names.hello("a", A, HEARD_S + 1)


def test_one_that_comes_back_with_another_address_waits_until_it_is_not_heard_from_the_old_one(path: Path) -> None:
    names = register(path)
    names.hello("a", A, 0)
    moved = Named(A.identity, "10.0.0.9")
    with pytest.raises(Taken):
        names.hello("a", moved, 1)
    names.hello("a", moved, HEARD_S)


def test_a_machine_that_leaves_frees_its_name_and_only_its_own(path: Path) -> None:
    names = register(path)
    names.hello("a", A, 0)
    assert not names.leave("a", OTHER)
    assert not names.leave("b", A)
    assert names.leave("a", A)
    names.hello("a", OTHER, 1)


def test_a_door_that_is_started_anew_remembers_and_gives_everybody_time_to_be_heard(path: Path) -> None:
    register(path).hello("a", A, 0)
    later = register(path, now_s=1000)
    with pytest.raises(Taken):
        later.hello("a", OTHER, 1001)
    later.hello("a", OTHER, 1000 + HEARD_S)


@pytest.mark.parametrize("damaged", [b"{", b'{"\xff": {}}'])
def test_a_file_that_is_damaged_is_none(path: Path, damaged: bytes) -> None:
    path.write_bytes(damaged)
    names = register(path)
    names.hello("a", A, 0)
    assert "10.0.0.2" in path.read_text()
