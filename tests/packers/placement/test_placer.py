"""The Placer finds room whenever there is some, remembers without ever being wrong, and does not care for order."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.placement import RULES, Ask, Cluster, Mix, NoSpot, Placer, Spot, Taken, Where
from packers.types import GpuId, NodeId, Pool, PoolId, PoolKind
from tests.packers.placement.clusters import (
    GIB,
    World,
    arrays,
    cluster,
    fits_somewhere,
    spot,
    within_capacity,
    worlds,
)

rules = st.sampled_from(sorted(RULES))


@given(worlds(), rules)
def test_it_places_whenever_some_node_has_room_and_only_then(world: World, rule: str) -> None:
    there = world.cluster()
    placer = Placer(there, RULES[rule], Mix.of(world.asks))
    for ask in world.asks:
        found = placer.place(ask)
        assert isinstance(found, Spot) == fits_somewhere(there, ask)
        if isinstance(found, Spot):
            there.take(found, ask)
            assert within_capacity(there)


@given(worlds(), rules)
def test_a_group_is_on_one_node_and_on_gpus_of_the_right_type(world: World, rule: str) -> None:
    there = world.cluster()
    placer = Placer(there, RULES[rule], Mix.of(world.asks))
    for ask in world.asks:
        found = placer.place(ask)
        if isinstance(found, Spot):
            used = [gpu for gpu in world.gpus if gpu.id in found.gpus]
            assert len(used) == len(found.gpus) == ask.gpus
            assert {gpu.node for gpu in used} <= {found.node}
            assert not ask.gpu_types or {gpu.name for gpu in used} <= set(ask.gpu_types)
            there.take(found, ask)


@given(worlds(), rules, st.randoms(use_true_random=False))
def test_what_it_remembers_is_what_scoring_afresh_finds(world: World, rule: str, random: Random) -> None:
    there, mix = world.cluster(), Mix()
    placer = Placer(there, RULES[rule], mix)
    held: list[Taken] = []
    for _ in range(3):
        for ask in world.asks:
            mix.see(ask)
            found = placer.place(ask, explain=True)
            fresh = Placer(there.copy(), RULES[rule], mix)
            assert found == fresh.place(ask, explain=True)
            assert placer.scores(ask).tolist() == fresh.scores(ask).tolist()
            if isinstance(found, Spot):
                held.append(there.take(found, ask))
            if held and random.random() < 0.4:
                there.give_back(held.pop(random.randrange(len(held))))
            if world.gpus and random.random() < 0.2:
                there.cordon(random.choice(world.gpus).id, random.random() < 0.5)


@given(worlds(), rules)
def test_the_order_in_which_the_world_is_listed_changes_no_answer(world: World, rule: str) -> None:
    one, other = world.cluster(), world.cluster(reverse=True)
    first, second = (
        Placer(one, RULES[rule], Mix.of(world.asks)),
        Placer(other, RULES[rule], Mix.of(world.asks[::-1])),
    )
    for ask in world.asks:
        found = first.place(ask, explain=True)
        assert found == second.place(ask, explain=True)
        if isinstance(found, Spot):
            one.take(found, ask)
            other.take(found, ask)
    assert arrays(one) == arrays(other)


@given(worlds(), rules)
def test_asking_changes_nothing(world: World, rule: str) -> None:
    there = world.cluster()
    placer = Placer(there, RULES[rule], Mix.of(world.asks))
    before = arrays(there)
    for ask in world.asks:
        assert placer.place(ask) == placer.place(ask)
    assert (arrays(there), there.revision) == (before, 0)


@pytest.mark.parametrize("rule", sorted(RULES))
class TestLimits:
    def placer(self, rule: str, there: Cluster) -> Placer:
        return Placer(there, RULES[rule], Mix.of([Ask(gpu_bytes=10 * GIB)]))

    def test_an_excluded_node_is_never_taken(self, rule: str) -> None:
        placer = self.placer(rule, cluster({"a": [80], "b": [80]}))
        ask = Ask(gpu_bytes=10 * GIB)
        for gone in ("a", "b"):
            found = placer.place(ask, Where.of(excluded=[NodeId(gone)]))
            assert isinstance(found, Spot)
            assert found.node != gone
        assert isinstance(placer.place(ask, Where.of(excluded=[NodeId("a"), NodeId("b")])), NoSpot)

    def test_an_affine_node_is_taken_before_all_others_if_it_has_room(self, rule: str) -> None:
        there = cluster({"a": [80], "b": [80], "c": [80]})
        placer, ask = self.placer(rule, there), Ask(gpu_bytes=50 * GIB)
        where = Where.of(affine=[NodeId("c"), NodeId("unheard of")])
        found = placer.place(ask, where)
        assert isinstance(found, Spot)
        assert found.node == "c"
        there.take(found, ask)
        other = placer.place(ask, where)
        assert isinstance(other, Spot)
        assert other.node != "c"

    def test_owned_gpus_come_before_rented_ones(self, rule: str) -> None:
        burst = Pool(PoolId("burst"), PoolKind.BURST, 2.0)
        there = cluster({"a": [80], "b": [80]}, pools=[burst], pool_of={"a": burst.id})
        placer, ask = self.placer(rule, there), Ask(gpu_bytes=50 * GIB)
        nodes = []
        for _ in range(2):
            found = placer.place(ask)
            assert isinstance(found, Spot)
            nodes.append(found.node)
            there.take(found, ask)
        assert nodes == ["b", "a"]

    def test_nothing_goes_to_a_cordoned_gpu(self, rule: str) -> None:
        there = cluster({"a": [80, 80]})
        there.cordon(GpuId("a/0"))
        placer = self.placer(rule, there)
        found = placer.place(Ask(gpu_bytes=10 * GIB))
        assert isinstance(found, Spot)
        assert found.gpus == ("a/1",)
        assert isinstance(placer.place(Ask(2, 10 * GIB)), NoSpot)
        there.cordon(GpuId("a/0"), cordoned=False)
        assert isinstance(placer.place(Ask(2, 10 * GIB)), Spot)

    def test_ties_go_to_the_smaller_node_and_gpu(self, rule: str) -> None:
        found = self.placer(rule, cluster({"b": [80, 80], "a": [80, 80]})).place(Ask(gpu_bytes=10 * GIB))
        assert isinstance(found, Spot)
        assert found.gpus == ("a/0",)

    def test_without_nodes_nothing_has_room(self, rule: str) -> None:
        found = self.placer(rule, cluster({})).place(Ask())
        assert found == NoSpot(False, "There is no node at present.")

    def test_with_nothing_expected_yet_it_decides_all_the_same(self, rule: str) -> None:
        assert isinstance(Placer(cluster({"a": [80]}), RULES[rule]).place(Ask()), Spot)


def test_another_rule_for_ties_gets_all_that_tie() -> None:
    seen: list[list[int]] = []

    def last(rows: object) -> int:
        seen.append([int(row) for row in rows])  # type: ignore[attr-defined]
        return seen[-1][-1]

    found = Placer(cluster({"a": [80], "b": [40], "c": [80]}), RULES["best-fit"], ties=last).place(Ask(gpu_bytes=GIB))
    assert isinstance(found, Spot)
    assert (found.node, seen) == ("b", [[1]])
    found = Placer(cluster({"a": [80], "b": [40], "c": [80]}), RULES["first-fit"], ties=last).place(Ask(gpu_bytes=GIB))
    assert isinstance(found, Spot)
    assert (found.node, seen[1:]) == ("c", [[0, 1, 2]])


def test_a_group_takes_the_tightest_gpus() -> None:
    there = cluster({"a": [80, 80, 80, 80]})
    there.take(spot("a/1"), Ask(gpu_bytes=30 * GIB))
    there.take(spot("a/3"), Ask(gpu_bytes=70 * GIB))
    found = Placer(there, RULES["best-fit"]).place(Ask(2, 40 * GIB))
    assert isinstance(found, Spot)
    assert found.gpus == ("a/0", "a/1")


class TestExplained:
    def test_the_best_come_first_then_the_rejected_with_why(self) -> None:
        there = cluster({"a": [80], "b": [40], "c": [24], "d": [80]}, types={"d": "T4"})
        found = Placer(there, RULES["best-fit"]).place(Ask(gpu_bytes=30 * GIB, gpu_types=("H100",)), explain=True)
        assert isinstance(found, Spot)
        assert [(one.gpu, one.rejected) for one in found.candidates] == [
            ("b/0", None),
            ("a/0", None),
            ("d/0", "no H100"),
            ("c/0", "0 of 1 GPU with room"),
        ]
        assert found.candidates[0].score == found.score
        assert [one.free_bytes // GIB for one in found.candidates] == [40, 80, 80, 24]

    def test_a_refusal_counts_what_rules_nodes_out(self) -> None:
        there = cluster({"a": [80], "b": [80], "c": [80], "d": [80]}, cpu_milli=4000, host_gib=8)
        for node in ("a", "b"):
            there.take(spot(f"{node}/0"), Ask(cpu_milli=3000))
        there.cordon(GpuId("c/0"))
        where = Where.of(excluded=[NodeId("d")])
        found = Placer(there, RULES["ours"]).place(Ask(cpu_milli=2000), where, explain=True)
        assert isinstance(found, NoSpot)
        assert found.ever
        assert found.reason == "No node has room for a GPU with 2 CPUs now."
        assert found.rejections == (("too few CPUs free", 2), ("cordoned", 1), ("not on this node", 1))

    @pytest.mark.parametrize(
        ("ask", "reason"),
        [
            (Ask(gpu_bytes=90 * GIB), "No node could ever give a GPU with 90 GiB."),
            (Ask(3, GIB), "No node could ever give 3 GPUs of one node with 1 GiB."),
            (Ask(gpu_bytes=GIB, gpu_types=("A10",)), "No node could ever give a GPU with 1 GiB, type A10."),
            (Ask(2, compute_milli=1001), "No node could ever give 2 GPUs of one node with 100.1% of its compute."),
            (Ask(host_bytes=101 * GIB), "No node could ever give a GPU with 101 GiB of host RAM."),
        ],
    )  # fmt: skip
    def test_what_not_even_an_empty_node_has_is_never_to_be_had(self, ask: Ask, reason: str) -> None:
        there = cluster({"a": [80, 80]}, cpu_milli=4000)
        assert Placer(there, RULES["first-fit"]).place(ask) == NoSpot(False, reason)

    def test_dearer_nodes_say_so(self) -> None:
        burst = Pool(PoolId("burst"), PoolKind.BURST, 2.0)
        there = cluster({"a": [80], "b": [80]}, pools=[burst], pool_of={"a": burst.id})
        found = Placer(there, RULES["first-fit"]).place(Ask(), explain=True)
        assert [(one.gpu, one.rejected) for one in found.candidates] == [
            ("b/0", None),
            ("a/0", "dearer or less wanted"),
        ]
