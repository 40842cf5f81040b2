"""Reservations of the configuration: what they mean on the GPUs that are there, and that the controller keeps them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.catalog.config import ConfigError, load_config
from models.catalog.service import ReservationSettings
from models.control.reserved import Reserved
from packers.types import Gpu, GpuId, Guarantee, NodeId
from tests.models.control.scene import MIB, Scene, card

pytestmark = pytest.mark.anyio


def reservation(name: str = "team", mib: int = 60, **more: object) -> ReservationSettings:
    given: dict[str, object] = {"name": name, "memory": mib * MIB, **({} if more else {"models": ["mine"]}), **more}
    return ReservationSettings.model_validate(given)


def gpus(*names: str, mib: int = 100) -> tuple[Gpu, ...]:
    return tuple(Gpu(GpuId(name), NodeId(name.split("/")[0]), place, mib * MIB) for place, name in enumerate(names))


def scene(*settings: ReservationSettings, gpus_mib: tuple[int, ...] = (100,)) -> Scene:
    made = Scene([card("mine", 60), card("theirs", 60, owned_by="tenant"), card("small", 30)], gpus_mib)
    made.controller.world.reserved = Reserved(settings)
    return made


def test_models_and_tenants_are_in_groups() -> None:
    reserved = Reserved([reservation("one"), reservation("two", tenant="tenant", models=["mine"])])
    assert reserved.groups(card("mine", 60)) == ("one", "two")
    assert reserved.groups(card("theirs", 60, owned_by="tenant")) == ("two",)
    assert reserved.groups(card("small", 60)) == ()


def test_patterns_hold_for_the_gpus_that_are_there() -> None:
    reserved = Reserved([reservation("one", gpus="a/*", models=["mine"]), reservation("two", 10, models=["mine"])])
    first = gpus("a/gpu-0", "b/gpu-0")
    assert reserved.guarantees(first) == (
        Guarantee("one", GpuId("a/gpu-0"), 60 * MIB),
        Guarantee("two", GpuId("a/gpu-0"), 10 * MIB),
        Guarantee("two", GpuId("b/gpu-0"), 10 * MIB),
    )
    assert reserved.guarantees(first) is reserved.guarantees(first), "worked out once"
    assert reserved.on(GpuId("a/gpu-0")) == {"one": 60 * MIB, "two": 10 * MIB}
    joined = (*first, *gpus("a/gpu-1"))
    assert len(reserved.guarantees(joined)) == 5


def test_what_cannot_be_guaranteed_is_told_once() -> None:
    reserved = Reserved(
        [reservation("one", 80), reservation("two", 80), reservation("three", gpus="z/*", models=["m"])]
    )
    assert reserved.news() == []
    reserved.guarantees(gpus("a/gpu-0", "b/gpu-0"))
    assert reserved.news() == [
        "reservation two: 80 MiB are more than is left of a/gpu-0, b/gpu-0: it gets the rest",
        "reservation three: no GPU is named z/*, so nothing is kept for it",
    ]
    assert reserved.news() == []


async def test_the_controller_keeps_the_room_and_says_so_to_who_is_refused() -> None:
    plain = scene()
    plain.hold("theirs")
    await plain.run(2)
    assert plain.states() == {"theirs-1": "ready"}
    kept = scene(reservation())
    kept.hold("theirs")
    kept.hold("small")
    await kept.run(2)
    assert kept.states() == {"small-1": "ready"}, "small fits beside what is kept"
    assert kept.held == {}, "theirs was told at once that it never fits"
    (refused,) = kept.decided("refuse")
    assert "guaranteed to others" in refused.reason
    kept.hold("mine")
    await kept.run(2)
    assert kept.states()["mine-2"] == "ready"
    assert not kept.decided("sleep", "stop")
    assert kept.store.fleet is not None
    assert kept.store.fleet.gpus[0].kept == {"team": 60 * MIB}


async def test_a_reservation_that_is_taken_away_lets_the_others_in() -> None:
    made = scene(reservation())
    made.hold("theirs")
    await made.run(1)
    assert made.states() == {}
    assert made.route("theirs").failure is not None
    made.controller._reserve(Reserved())
    await made.run(0.1)
    assert made.route("theirs").failure is None, "callers are let in again"
    made.hold("theirs")
    await made.run(3)
    assert list(made.states().values()) == ["ready"]


async def test_a_pattern_that_names_no_gpu_is_a_decision() -> None:
    made = scene(reservation(gpus="elsewhere/*", models=["mine"]))
    await made.run(0.1)
    (told,) = made.decided("reservation")
    assert "no GPU is named elsewhere/*" in told.reason


async def test_a_tenant_is_not_pushed_out_by_a_storm_of_others() -> None:
    made = scene(reservation("for-tenant", 60, tenant="tenant"))
    made.hold("theirs")
    await made.run(2)
    for _ in range(20):
        for name in ("mine", "small"):
            made.hold(name)
        await made.run(1, 0.05)
    assert made.states()["theirs-1"] == "ready"
    assert {one.model_id for one in made.decided("sleep", "stop")} <= {"small"}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a/*", "*", "b/gpu-0"]), st.integers(1, 200)), max_size=5))
def test_never_more_than_a_gpu_has_is_said_to_be_left(given: list[tuple[str, int]]) -> None:
    reserved = Reserved(
        reservation(f"r{place}", mib, gpus=pattern, models=["m"]) for place, (pattern, mib) in enumerate(given)
    )
    there = gpus("a/gpu-0", "b/gpu-0")
    listed = reserved.guarantees(there)
    told = reserved.news()
    for gpu in there:
        asked = sum(one.gpu_bytes for one in listed if one.gpu == gpu.id)
        assert (asked > gpu.memory_bytes) <= any(gpu.id in text for text in told)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {name: x, memory: 1GiB}", "names nobody that it is for"),
        ("- {name: x, models: [b], memory: 1GiB}", "'b' is no model of this configuration"),
        ("- {name: x, tenant: b, memory: 1GiB}", "no model is owned_by 'b'"),
        ("- {name: x, models: [a], memory: 0}", "0 is not possible"),
        ("- {name: x, models: [a]}", "is missing"),
        ("- {name: x, models: [a], memory: 1}\n- {name: x, models: [a], memory: 1}", "another one's name"),
    ],
)
def test_what_means_nothing_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "roundhouse.yaml"
    config.write_text(f"models:\n- {{model_id: a, model_source: a}}\nreservations:\n{text}\n")
    with pytest.raises(ConfigError, match=said) as refused:
        load_config(config)
    assert refused.value.field.startswith("reservations[")


def test_one_gpu_or_several() -> None:
    assert reservation(gpus="n/gpu-0", models=["m"]).gpus == ("n/gpu-0",)
    assert reservation().gpus == ("*",)
    with pytest.raises(ValidationError):
        reservation(gpus="", models=["m"])
