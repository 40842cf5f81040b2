"""Memory guaranteed to groups of models: nobody else takes it, and its group gets it whenever it asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packers.decide import Policies
from packers.growth import make_way
from packers.ledger import holds
from packers.sim import SimWorld, StartUp, TierTime, Trace, simulate
from packers.state import State
from packers.types import Gpu, GpuId, Guarantee, Hold, Model, ModelId, Plan, Refuse, Replica, ReplicaId, Snapshot
from tests.packers.worlds import (
    ASLEEP,
    MIB,
    PLAIN,
    READY,
    decide,
    gpus,
    model,
    nodes,
    reasons,
    replica,
    short,
    world,
)
from tests.packers.yard import Yard


def kept(mib: int, group: str = "team", gpu: str = "n/0") -> Guarantee:
    return Guarantee(group, GpuId(gpu), mib * MIB)


def member(name: str, mib: int = 60, group: str = "team", **more: object) -> Model:
    return replace(model(name, mib, **more), groups=(group,))  # type: ignore[arg-type]


def guarded(there: Snapshot, *guarantees: Guarantee) -> Snapshot:
    return replace(there, guarantees=guarantees)


def test_what_is_guaranteed_stays_free_for_its_group() -> None:
    there = world({"n/0": 100}, [member("mine"), model("other", 60, held=1)])
    assert short(decide(there)) == ["start other on n/0"]
    plan = decide(guarded(there, kept(60)))
    assert short(plan) == ["refuse other"], "60 of 100 are kept: 40 are never enough"
    assert "guaranteed to others" in plan.actions[0].reason
    assert short(decide(guarded(there, kept(40)))) == ["start other on n/0"]
    mine = world({"n/0": 100}, [member("mine", held=1), model("other", 60)])
    assert short(decide(guarded(mine, kept(60)))) == ["start mine on n/0"]


def test_others_go_where_nothing_is_kept() -> None:
    there = world({"n/0": 100, "n/1": 100}, [member("mine"), model("other", 60, held=1)])
    assert short(decide(guarded(there, kept(60)))) == ["start other on n/1"]


def test_what_is_left_beside_a_guarantee_is_for_everybody() -> None:
    models = [member("mine", 50, held=1), model("small", 40, held=1, waited_s=1)]
    plan = decide(guarded(world({"n/0": 100}, models), kept(60)))
    assert short(plan) == ["start small on n/0", "start mine on n/0"]
    assert "10 MiB stay free" in plan.actions[1].reason


def test_a_member_is_not_evicted_for_others_within_its_guarantee() -> None:
    models = [member("mine"), model("other", 50, held=1)]
    there = world({"n/0": 100}, models, [replica("mine", "n/0", 60)])
    assert short(decide(there)) == ["sleep mine-1 for other", "hold other"]
    plan = decide(guarded(there, kept(50)))
    assert short(plan) == ["sleep mine-1 for other", "hold other"], "of 100, 50 are not kept: it gets those"
    plan = decide(guarded(world({"n/0": 120}, models, [replica("mine", "n/0", 60)]), kept(70)))
    assert short(plan) == ["start other on n/0"], "what is not kept is free"
    several = [replica("mine", "n/0", 60), replica("old", "n/0", 40)]
    plan = decide(guarded(world({"n/0": 100}, [*models, model("old", 40)], several), kept(60)))
    assert short(plan) == ["refuse other"]
    roomy = world({"n/0": 110}, [*models, model("old", 40)], several)
    plan = decide(guarded(roomy, kept(60)))
    assert short(plan) == ["sleep old-1 for other", "hold other"], "the one that nothing is kept for goes"
    busy = [replica("mine", "n/0", 60), replica("old", "n/0", 40, busy=1)]
    plan = decide(guarded(replace(roomy, replicas=tuple(busy)), kept(60)))
    assert short(plan) == ["hold other"]
    assert "mine (kept for team)" in plan.actions[0].reason
    assert "if mine" not in plan.actions[0].reason, "its leaving would not help"


def test_of_what_a_group_holds_beyond_its_guarantee_only_that_is_to_be_had() -> None:
    """The group holds 80 and is guaranteed 50: another may have 30, not the 40 that one of them gives back."""
    models = [member("m", 40), member("k", 40), model("other", 35, held=1)]
    there = world({"n/0": 80}, models, [replica("m", "n/0", 40), replica("k", "n/0", 40, idle_s=20)])
    assert short(decide(guarded(there, kept(50)))) == ["refuse other"]
    assert short(decide(guarded(there, kept(45)))) == ["sleep k-1 for other", "hold other"]


def test_a_member_gets_its_guarantee_back_from_its_own() -> None:
    models = [member("a", 60), member("b", 60, held=1), model("other", 40)]
    there = world({"n/0": 100}, models, [replica("a", "n/0", 60), replica("other", "n/0", 40, idle_s=1)])
    plan = decide(guarded(there, kept(60)))
    assert short(plan) == ["sleep a-1 for b", "hold b"]


def test_two_groups_share_a_gpu() -> None:
    models = [member("a", 40, "one", held=1), member("b", 40, "two", held=1), model("c", 30, held=1, waited_s=9)]
    there = guarded(world({"n/0": 100}, models), kept(40, "one"), kept(40, "two"))
    assert short(decide(there)) == ["refuse c", "start a on n/0", "start b on n/0"]
    one_more = replace(there, models=(*models, member("d", 20, "two", held=1)))
    assert short(decide(one_more))[-1] == "start d on n/0", "a group may use what nobody is guaranteed"


def test_a_model_in_two_groups_uses_the_first_that_has_a_guarantee_there() -> None:
    both = replace(model("a", 40, held=1), groups=("one", "two"))
    there = guarded(world({"n/0": 100}, [both, member("b", 60, "two")]), kept(60, "two"), kept(30, "one"))
    assert short(decide(there)) == ["start a on n/0"]
    state = State.of(there)
    found = state.guarantees_now()
    assert found.group(GpuId("n/0"), both.groups) == "two", "by the order of the guarantees"
    assert found.group(GpuId("n/1"), both.groups) is None
    assert found.group(GpuId("n/0"), ()) is None


def test_guarantees_beyond_a_gpu_are_cut_off_and_unknown_gpus_do_not_matter() -> None:
    there = guarded(world({"n/0": 100}), kept(80, "one"), kept(80, "two"), kept(5, "two", "gone/0"))
    state = State.of(there)
    assert state.guarantees_now().on == {"n/0": {"one": 80 * MIB, "two": 20 * MIB}}
    assert state.snapshot(there.id, there.now_s) == there
    with pytest.raises(ValueError, match="gpu_bytes is negative"):
        kept(-1)


def test_where_it_is_taken_already_it_comes_about_when_a_member_asks() -> None:
    models = [member("mine", 60, held=1), model("squatter", 80)]
    there = guarded(world({"n/0": 100}, models, [replica("squatter", "n/0", 80)]), kept(60))
    assert short(decide(there)) == ["sleep squatter-1 for mine", "hold mine"]


def test_an_outsider_wakes_only_into_what_is_not_kept() -> None:
    sleeper = replica("other", "n/0", 50, ASLEEP)
    models = [member("mine", 60), model("other", 50, held=1)]
    there = world({"n/0": 100}, models, [sleeper])
    assert short(decide(there)) == ["wake other-1"]
    assert short(decide(guarded(there, kept(50)))) == ["wake other-1"]
    assert short(decide(guarded(there, kept(51)))) == ["hold other"], "a sleeping one is not refused: it may end"


def test_moves_and_caches_leave_guarantees_alone() -> None:
    """Draining n/1: its replica may not be moved into what is kept on n/0."""
    models = [member("mine", 60), model("other", 60, in_flight=1)]
    there = world({"n/0": 100, "n/1": 100}, models, [replica("other", "n/1", 60, busy=1)])
    drained = replace(there, gpus=(there.gpus[0], replace(there.gpus[1], cordoned=True)))
    assert short(decide(drained)) == ["start other on n/0"]
    assert not any("start" in one for one in short(decide(guarded(drained, kept(60)))))


def test_one_that_holds_more_than_it_reserved_does_not_grow_into_a_guarantee() -> None:
    models = [member("mine", 30), model("other", 60)]
    there = world({"n/0": 100}, models, [replica("other", "n/0", 60)])
    assert make_way(there, ReplicaId("other-1"), 20 * MIB, PLAIN) == ()
    assert make_way(guarded(there, kept(30)), ReplicaId("other-1"), 20 * MIB, PLAIN) is None


# Over time: whatever is asked for in whatever order


def _share(replicas: Iterable[Replica], group: str, of: dict[ModelId, Model], gpu: Gpu) -> int:
    return sum(holds(one)[0] for one in replicas if one.gpu == gpu.id and group in of[one.model].groups)


def _others(replicas: Iterable[Replica], of: dict[ModelId, Model], gpu: Gpu) -> int:
    return sum(holds(one)[0] for one in replicas if one.gpu == gpu.id and not of[one.model].groups)


class Guarded(Yard):
    """Checks after everything that happens that each group's memory is free or its own."""

    guarantees: tuple[Guarantee, ...] = ()

    def snapshot(self) -> Snapshot:
        return replace(super().snapshot(), guarantees=self.guarantees)

    def decide(self) -> Plan:
        plan = super().decide()
        for action in plan.actions:
            if isinstance(action, Hold | Refuse) and self.models[action.model].groups:
                self._check_held(action)
        return plan

    def _check_held(self, action: Hold | Refuse) -> None:
        """A member that fits into its guarantee waits for nobody but its own group, or for what leaves already."""
        asks = self.models[action.model]
        for one in self.guarantees:
            mine = [r for r in self.replicas.values() if r.gpu == one.gpu and one.group in self.models[r.model].groups]
            coming = [r for r in self.replicas.values() if r.gpu == one.gpu and r.state.value == "draining"]
            if one.group in asks.groups and not mine and not coming:
                assert asks.footprint.gpu_bytes > one.gpu_bytes, f"{action} although all of it is free"

    def _check_books(self) -> None:
        super()._check_books()
        there = list(self.replicas.values())
        for gpu in self.gpus:
            kept_bytes = sum(
                max(one.gpu_bytes, _share(there, one.group, self.models, gpu))
                for one in self.guarantees
                if one.gpu == gpu.id
            )
            taken = kept_bytes + _others(there, self.models, gpu)
            assert taken <= gpu.memory_bytes, f"{taken - gpu.memory_bytes} bytes of a guarantee on {gpu.id} are taken"


POLICIES = st.builds(
    Policies,
    placement=st.sampled_from(["best-fit", "ours"]),
    eviction=st.sampled_from(["lru", "ours"]),
    patience_s=st.sampled_from((None, 5.0)),
    swaps_per_minute=st.sampled_from((None, 30.0)),
    prewarm=st.booleans(),
)
ASKED = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 400), st.integers(1, 30)), min_size=5, max_size=60)


@settings(max_examples=60, deadline=None)
@given(
    POLICIES,
    ASKED,
    st.lists(st.integers(10, 60), min_size=8, max_size=8),
    st.lists(st.integers(0, 60), min_size=4, max_size=4),
    st.sampled_from([0, 60, 1000]),
)
def test_however_others_press_a_guarantee_is_free_or_its_own(
    policies: Policies, asked: list[tuple[int, int, int]], sizes: list[int], shares: list[int], host: int
) -> None:
    there = gpus({"n/0": 100, "n/1": 120})
    names = [(), (), (), (), ("one",), ("one",), ("two",), ("two",)]
    models = [
        replace(model(f"m{place}", mib, residue=mib // 10, max_replicas=2), groups=names[place])
        for place, mib in enumerate(sizes)
    ]
    yard = Guarded(there, nodes(there, host), models, policies)
    yard.guarantees = tuple(
        kept(share, group, gpu)
        for share, (group, gpu) in zip(
            shares, [("one", "n/0"), ("two", "n/0"), ("one", "n/1"), ("two", "n/1")], strict=True
        )
        if share
    )
    if any(sum(one.gpu_bytes for one in yard.guarantees if one.gpu == gpu.id) > gpu.memory_bytes for gpu in there):
        return
    for which, tenth, tenths in asked:
        yard.request(ModelId(f"m{which}"), tenth / 10, tenths / 10)
    yard.run(80)


@settings(max_examples=30, deadline=None)
@given(POLICIES, st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300)), min_size=20, max_size=60))
def test_a_member_is_served_at_once_while_others_storm(policies: Policies, storm: list[tuple[int, int]]) -> None:
    """60 of 100 are guaranteed; the member takes 60; outsiders of 20 to 40 fight for the rest for ever."""
    there = gpus({"n/0": 100})
    outsiders = [model(f"m{place}", 20 + 5 * place) for place in range(4)]
    yard = Guarded(there, nodes(there, 1000), [*outsiders, member("mine", 60)], policies)
    yard.guarantees = (kept(60),)
    for which, tenth in storm:
        yard.request(ModelId(f"m{which}"), tenth / 10, 1.0)
    mine = yard.request(ModelId("mine"), 15.0, 0.5)
    yard.run(40)
    assert mine.served_s is not None
    assert mine.served_s - mine.at_s <= 1.0 + 0.5 + 0.1, "a start and its service: nobody had to go for it"


def test_the_reasons_name_the_group() -> None:
    busy = [replica("mine", "n/0", 60), replica("old", "n/0", 40, busy=1)]
    models = [member("mine"), model("old", 40, in_flight=1), model("other", 45, held=1)]
    said = reasons(decide(guarded(world({"n/0": 110}, models, busy), kept(60))))
    assert "mine (kept for team), old (busy)" in said["hold other"].replace(" and ", ", ")
    assert READY.value == "ready"


def test_a_simulation_keeps_them_too() -> None:
    """Called last of all, mine finds its room; without the guarantee somebody would have had to go for it."""
    there = gpus({"n/0": 100})
    models = (member("mine", 60), model("a", 40), model("b", 40))
    at_s = [float(at) for at in range(40)]
    trace = Trace.of(("a", "b", "mine"), at_s, [*([0, 1] * 19), 0, 2], [0.5] * 40)
    quick = StartUp(disk=TierTime(0.2), host=TierTime(0.1), sleep=TierTime(0.1), stop_s=0.1)
    evicted = []
    for guarantees in ((), (kept(60),)):
        simulated = SimWorld(there, nodes(there, 1000), models, startup=quick, guarantees=guarantees)
        result = simulate(trace, simulated, PLAIN)
        assert result.served == 40
        evicted.append({one.model: one.evictions for one in result.models})
    assert evicted[1][ModelId("mine")] == 0
    assert sum(evicted[0].values()) < sum(evicted[1].values()), "a and b share what is not kept"
