"""GPUs to which nothing new goes while what is there stays, and GPUs on which a start failed lately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.decide import Policies
from packers.types import Demand, GpuId, Model, Pool, PoolId, PoolKind, Replica, Snapshot, Start, Wake
from tests.packers.test_plans import snapshots
from tests.packers.worlds import ASLEEP, PLAIN, decide, model, reasons, replica, short, world


def closed(snapshot: Snapshot, why: Mapping[str, str]) -> Snapshot:
    return replace(snapshot, gpus=tuple(replace(gpu, closed=why.get(gpu.id, "")) for gpu in snapshot.gpus))


def avoiding(of: Model, *gpus: str) -> Model:
    return replace(of, avoid=tuple(map(GpuId, gpus)))


def test_nothing_new_goes_to_a_closed_gpu() -> None:
    there = closed(world({"n/0": 100, "n/1": 200}, [model("a", held=1)]), {"n/0": "it is away"})
    assert short(decide(there)) == ["start a on n/1"]


def test_what_is_on_a_closed_gpu_stays_there() -> None:
    there = world({"n/0": 100, "n/1": 200}, [model("a", in_flight=1)], [replica("a", "n/0", busy=1)])
    assert short(decide(closed(there, {"n/0": "it is away"}))) == []


def test_a_hold_says_why_a_gpu_is_closed() -> None:
    there = closed(world({"n/0": 100}, [model("a", held=1)]), {"n/0": "n is away"})
    plan = decide(there)
    assert short(plan) == ["hold a"]
    assert "n is away" in reasons(plan)["hold a"]


def test_one_that_sleeps_on_a_closed_gpu_is_started_elsewhere() -> None:
    there = world({"n/0": 100, "n/1": 100}, [model("a", held=1)], [replica("a", "n/0", state=ASLEEP)])
    assert short(decide(there)) == ["wake a-1"]
    assert short(decide(closed(there, {"n/0": "n is cordoned"}))) == ["start a on n/1"]


def test_nobody_is_evicted_from_a_closed_gpu_for_what_cannot_go_there() -> None:
    there = world({"n/0": 100}, [model("a"), model("b", held=1)], [replica("a", "n/0")])
    assert short(decide(there)) == ["sleep a-1 for b", "hold b"]
    assert short(decide(closed(there, {"n/0": "n is cordoned"}))) == ["hold b"]


@settings(max_examples=150, deadline=None)
@given(snapshots(), st.data())
def test_no_plan_brings_anything_to_a_closed_gpu(snapshot: Snapshot, data: st.DataObject) -> None:
    shut = data.draw(st.sets(st.sampled_from([gpu.id for gpu in snapshot.gpus]))) if snapshot.gpus else set()
    there = closed(snapshot, dict.fromkeys(shut, "it is away"))
    policies = data.draw(st.sampled_from([PLAIN, Policies(), Policies(defrag="ours", prewarm=True)]))
    for action in decide(there, policies).actions:
        if isinstance(action, Start | Wake):
            assert action.gpu not in shut
            assert not shut & set(action.peers)


def test_a_start_goes_elsewhere_than_where_it_failed() -> None:
    there = world({"n/0": 60, "n/1": 100, "o/0": 200}, [model("a", held=1)])
    assert short(decide(there)) == ["start a on n/0"]
    for avoid, goes in ((["n/0"], "n/1"), (["n/0", "n/1"], "o/0"), (["n/0", "n/1", "o/0"], "n/0")):
        tried = replace(there, models=(avoiding(model("a", held=1), *avoid),))
        assert short(decide(tried)) == [f"start a on {goes}"]


def test_a_gpu_that_is_avoided_says_so() -> None:
    there = world({"n/0": 60, "n/1": 100}, [avoiding(model("a", held=1), "n/0")])
    (start,) = decide(there).actions
    assert isinstance(start, Start)
    assert {one.gpu: one.rejected for one in start.candidates} == {"n/1": None, "n/0": "a start failed there lately"}


def test_others_make_room_rather_than_that_it_is_tried_again_where_it_failed() -> None:
    models = [avoiding(model("a", held=1), "n/0"), model("b")]
    there = world({"n/0": 100, "n/1": 100}, models, [replica("b", "n/1")])
    assert short(decide(there)) == ["sleep b-1 for a", "hold a"]
    busy = replace(there, replicas=(replace(there.replicas[0], in_flight=1),))
    assert short(decide(busy)) == ["start a on n/0"], "where nothing else will do"


def test_owned_gpus_come_first_also_when_some_are_avoided() -> None:
    there = world({"n/0": 100, "o/0": 100, "p/0": 100}, [avoiding(model("a", held=1), "n/0")])
    rented = Pool(PoolId("rented"), PoolKind.BURST, 2.0)
    gpus = tuple(replace(gpu, pool=rented.id) if gpu.node == "o" else gpu for gpu in there.gpus)
    assert short(decide(replace(there, gpus=gpus, pools=(rented,)))) == ["start a on p/0"]


def test_a_group_avoids_the_whole_node() -> None:
    pair = replace(avoiding(model("a", held=1), "n/1"), tensor_parallel=2)
    sizes = {"n/0": 60, "n/1": 60, "n/2": 60, "o/0": 100, "o/1": 100}
    (start,) = decide(world(sizes, [pair])).actions
    assert isinstance(start, Start)
    assert (start.gpu, start.peers) == ("o/0", ("o/1",))


def test_apart_and_avoided_together() -> None:
    apart = replace(avoiding(model("a", held=1), "o/0"), anti_affinity=(model("b").id,))
    busy: Replica = replica("b", "n/0", 20, busy=1)
    there = world({"n/0": 100, "o/0": 100, "p/0": 100}, [apart, model("b", in_flight=1)], [busy])
    assert short(decide(there)) == ["start a on p/0"]


@pytest.mark.parametrize("placement", ["first-fit", "best-fit", "dot-product", "fgd", "ours"])
def test_every_policy_avoids(placement: str) -> None:
    sizes = {f"n{place:02}/0": 100 for place in range(40)}
    tried = avoiding(replace(model("a"), demand=Demand(held=1)), *list(sizes)[:39])
    (start,) = decide(world(sizes, [tried]), Policies(placement=placement)).actions
    assert isinstance(start, Start)
    assert start.gpu == "n39/0"
