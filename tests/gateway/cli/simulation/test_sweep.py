"""Which runs there are, and what each of them changes."""

from __future__ import annotations

import pytest

from gateway.cli.errors import AskedWrongly
from gateway.cli.simulation.sweep import RUNS_MAX, Variant, hardware_of, models_of, policies_of, variants
from gateway.cli.simulation.worlds import Hardware
from packers.decide import Policies
from packers.types import Footprint, Model, ModelId

MODELS = (Model(ModelId("a"), Footprint(1, 0, 0)), Model(ModelId("b"), Footprint(2, 0, 0)))


def labels(*sweeps: str, policy: tuple[str, ...] = ()) -> list[str]:
    return [variant.label for variant in variants(policy, sweeps)]


def test_nothing_swept_is_one_run_as_it_is() -> None:
    assert labels() == ["default"]
    assert policies_of(variants((), ())[0], Policies()) == Policies()


def test_every_combination_once() -> None:
    assert labels("ttl=60,600 policy=lru,default") == [
        "ttl=60 lru", "ttl=60 default", "ttl=600 lru", "ttl=600 default",
    ]  # fmt: skip
    assert labels("ttl=60", "ttl=60,90") == ["ttl=60", "ttl=90"]
    assert labels("nodes=1,2", policy=("lru",)) == ["lru nodes=1", "lru nodes=2"]


def test_gpus_of_several_sizes_are_told_apart_by_semicolons() -> None:
    assert labels("gpus=2x80GiB,4x80GiB") == ["gpus=2x80GiB", "gpus=4x80GiB"]
    assert labels("gpus=1x80GiB,1x40GiB;2x80GiB") == ["gpus=1x80GiB,1x40GiB", "gpus=2x80GiB"]


def test_what_a_run_changes() -> None:
    (run,) = variants((), ["ttl=10m max-replicas=3 nodes=2 host_memory=1GiB eviction=lru"])
    changed = models_of(run, MODELS)
    assert [(model.ttl_s, model.max_replicas) for model in changed] == [(600.0, 3)] * 2
    hardware = hardware_of(run, Hardware("8x80GiB"))
    assert (hardware.gpus, hardware.nodes, hardware.host_memory) == ("8x80GiB", 2, "1GiB")
    assert policies_of(run, Policies()).eviction == "lru"


def test_a_policy_is_found_by_its_name_alone_in_whatever_registry_it_is() -> None:
    def named(name: str) -> Policies:
        return policies_of(Variant((("policy", name),)), Policies())

    assert named("lru").eviction == "lru"
    assert named("best-fit").placement == "best-fit"
    assert named("concurrency").scaling == "concurrency"
    assert named("default") == Policies()
    ours = policies_of(Variant((("policy", "ours"),)), Policies(placement="best-fit", eviction="lru"))
    assert (ours.placement, ours.eviction) == ("ours", "ours"), "who gets the memory"
    assert (ours.scaling, ours.defrag) == (Policies().scaling, Policies().defrag), "these are other questions"


@pytest.mark.parametrize(
    ("sweep", "said", "cure"),
    [
        ("ttl", "'ttl' names no values", ""),
        ("tll=60", "'tll' is nothing that can be swept", "did you mean ttl?"),
        (f"seed={','.join(map(str, range(RUNS_MAX + 1)))}", f"{RUNS_MAX + 1} runs are more than {RUNS_MAX}", ""),
    ],
)
def test_sweeps_that_make_no_sense(sweep: str, said: str, cure: str) -> None:
    with pytest.raises(AskedWrongly) as caught:
        variants((), [sweep])
    assert said in caught.value.message
    assert cure in caught.value.cure


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ("policy=lru2", "policy 'lru2' is unknown"),
        ("placement=worst", "policies.placement: 'worst' is unknown"),
    ],
)
def test_policies_that_nobody_knows(sweep: str, said: str) -> None:
    (run,) = variants((), [sweep])
    with pytest.raises(AskedWrongly) as caught:
        policies_of(run, Policies())
    assert said in caught.value.message


@pytest.mark.parametrize(("sweep", "said"), [("ttl=soon", "ttl: 'soon'"), ("max_replicas=1.5", "'1.5' is not a whole")])
def test_values_that_are_none(sweep: str, said: str) -> None:
    (run,) = variants((), [sweep])
    with pytest.raises(AskedWrongly) as caught:
        models_of(run, MODELS)
    assert said in caught.value.message
