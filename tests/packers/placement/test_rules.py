"""What each policy prefers, and its arithmetic spelled out against the arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packers.placement import RULES, Ask, Cluster, Mix, Placer, Rule, Share, Spot
from packers.placement.best_fit import BestFitAsPublished
from packers.placement.cluster import UNCOUNTED
from packers.placement.fgd import Fgd, FgdAsPublished, popular
from packers.placement.ours import SIZE_EXPONENT, Ours
from packers.placement.rule import Candidates, candidates_of, memory_scale, states_of
from packers.types import Gpu, GpuId, Node, NodeId
from tests.packers.placement.clusters import GIB, World, cluster, spot, worlds


def milli_cluster(nodes: Mapping[str, tuple[int, Sequence[int]]]) -> Cluster:
    """Node -> (CPU milli, free compute milli of each GPU)."""
    gpus = [
        Gpu(GpuId(f"{node}/{index}"), NodeId(node), index, 0)
        for node, (_, frees) in nodes.items()
        for index in range(len(frees))
    ]
    there = Cluster(gpus, [Node(NodeId(node), 0, cpu_milli) for node, (cpu_milli, _) in nodes.items()])
    for node, (_, frees) in nodes.items():
        for index, free in enumerate(frees):
            there.take(spot(f"{node}/{index}"), Ask(compute_milli=1000 - free))
    return there


def chosen(there: Cluster, rule: Rule, ask: Ask, expected: Mix | None = None) -> tuple[str, ...]:
    found = Placer(there, rule, expected or Mix.of([ask])).place(ask)
    assert isinstance(found, Spot)
    return found.gpus


def test_first_fit_takes_the_first_with_room() -> None:
    there = milli_cluster({"a": (9000, [100, 400]), "b": (9000, [300])})
    assert chosen(there, RULES["first-fit"], Ask(compute_milli=300)) == ("a/1",)


def test_best_fit_takes_the_tightest_gpu_and_of_equal_ones_the_fuller_node() -> None:
    there = milli_cluster({"a": (9000, [400, 1000]), "b": (9000, [1000, 310]), "c": (9000, [310])})
    assert chosen(there, RULES["best-fit"], Ask(compute_milli=300)) == ("c/0",)


def test_best_fit_as_published_looks_at_the_node_and_then_at_the_gpu() -> None:
    there = milli_cluster({"a": (64000, [1000, 1000, 310]), "b": (64000, [900, 400])})
    assert chosen(there, BestFitAsPublished(), Ask(compute_milli=300)) == ("b/1",)


def test_dot_product_takes_the_node_with_least_of_what_is_asked_for() -> None:
    there = milli_cluster({"a": (90000, [1000, 1000]), "b": (90000, [1000, 400]), "c": (20000, [1000, 1000])})
    assert chosen(there, RULES["dot-product"], Ask(compute_milli=300)) == ("b/1",)
    assert chosen(there, RULES["dot-product"], Ask(compute_milli=300, cpu_milli=16000)) == ("c/0",)


def test_fgd_fills_the_hole_that_nothing_else_fits() -> None:
    there = milli_cluster({"a": (90000, [500]), "b": (90000, [200])})
    small, half = Ask(compute_milli=200), Ask(compute_milli=500)
    assert chosen(there, RULES["fgd"], small, Mix.of([small, half])) == ("b/0",)


@pytest.mark.parametrize(("rule", "taken"), [(FgdAsPublished(), "a/0"), (Ours(), "b/0")])
def test_ours_leaves_gpus_to_nodes_that_can_feed_them(rule: Rule, taken: str) -> None:
    """Node a has CPUs for its GPUs, b hardly; an ask without CPUs belongs to b. FGD sees one more fit on either."""
    there = milli_cluster({"a": (32000, [1000] * 4), "b": (9000, [1000] * 4)})
    hungry, frugal = Ask(compute_milli=1000, cpu_milli=8000), Ask(compute_milli=1000)
    assert chosen(there, rule, frugal, Mix.of([hungry])) == (taken,)


def test_ours_counts_host_ram_like_cpus() -> None:
    gpus = [Gpu(GpuId(f"{node}/{index}"), NodeId(node), index, 0) for node in "ab" for index in range(4)]
    there = Cluster(gpus, [Node(NodeId("a"), 64 * GIB), Node(NodeId("b"), 20 * GIB)])
    hungry = Ask(compute_milli=1000, host_bytes=16 * GIB)
    assert chosen(there, RULES["ours"], Ask(compute_milli=1000), Mix.of([hungry])) == ("b/0",)


@pytest.mark.parametrize("rule", ["fgd", "ours"])
def test_whole_nodes_are_spared_for_what_needs_them(rule: str) -> None:
    there = milli_cluster({"a": (96000, [1000] * 8), "b": (96000, [1000] * 7 + [500])})
    one, eight = Ask(compute_milli=1000), Ask(8, compute_milli=1000)
    assert chosen(there, RULES[rule], one, Mix.of([one] * 99 + [eight])) == ("b/0",)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_memory_and_compute_both_have_to_fit(rule: str) -> None:
    there = cluster({"a": [80], "b": [80], "c": [80]})
    there.take(spot("a/0"), Ask(compute_milli=900))
    there.take(spot("b/0"), Ask(gpu_bytes=70 * GIB))
    assert chosen(there, RULES[rule], Ask(gpu_bytes=20 * GIB, compute_milli=200)) == ("c/0",)


def test_the_published_list_is_cut_where_it_covers_most() -> None:
    asks = [Ask(compute_milli=milli) for milli in (100, 200, 300)]
    shares = tuple(Share(ask, share) for ask, share in zip(asks, (0.5, 0.46, 0.04), strict=True))
    assert [one.ask for one in popular(shares)] == asks[:2]
    assert [one.ask for one in popular(shares, part=1.0)] == asks


@pytest.mark.parametrize("rule", [Fgd(), FgdAsPublished(), Ours()])
def test_without_a_mix_to_look_at_a_rule_says_so(rule: Rule) -> None:
    there = cluster({"a": [80]})
    candidates = _candidates(there, Ask())
    with pytest.raises(TypeError, match=rf"{rule.name} needs to know"):
        rule.score(candidates, None, None)


def _candidates(there: Cluster, ask: Ask) -> Candidates:
    return candidates_of(there, ask, np.arange(len(there)), memory_scale(there))


@st.composite
def small_clusters(draw: st.DrawFn) -> tuple[Cluster, list[Ask]]:
    nodes = {}
    for name in "abc"[: draw(st.integers(1, 3))]:
        frees = draw(st.lists(st.sampled_from([0, 30, 190, 460, 530, 1000]), min_size=1, max_size=4))
        nodes[name] = (draw(st.integers(1, 40)) * 1000, frees)
    kinds = st.builds(
        Ask,
        gpus=st.sampled_from([1, 1, 2]),
        compute_milli=st.sampled_from([160, 470, 810, 1000]),
        cpu_milli=st.sampled_from([0, 3000, 12000]),
    )
    return milli_cluster(nodes), draw(st.lists(kinds, min_size=1, max_size=5))


@given(small_clusters())
def test_fgd_is_the_expected_room_that_tasks_can_use(world: tuple[Cluster, list[Ask]]) -> None:
    there, kinds = world
    expected = [
        sum(share.share * _room(there, row, share.ask) for share in Mix.of(kinds).shares) for row in range(len(there))
    ]
    assert _worth(Fgd(), there, kinds) == pytest.approx(expected)


@given(small_clusters())
def test_ours_is_the_mean_of_what_fits_and_what_can_be_fed(world: tuple[Cluster, list[Ask]]) -> None:
    there, kinds = world
    shares = Mix.of(kinds).shares
    weights = [share.share * (share.ask.gpus * share.ask.compute_milli / 1000) ** SIZE_EXPONENT for share in shares]
    expected = []
    for row in range(len(there)):
        worth = 0.0
        for share, weight in zip(shares, weights, strict=True):
            ask, room = share.ask, _room(there, row, share.ask)
            cpu_milli = there.free_node(there.nodes[row].id)[0]
            size = ask.gpus * ask.compute_milli
            fed = cpu_milli / ask.cpu_milli * size if ask.cpu_milli else math.inf
            worth += weight / sum(weights) * (room + min(room, fed)) / 2
        expected.append(worth)
    assert _worth(Ours(), there, kinds) == pytest.approx(expected)


def _room(there: Cluster, row: int, ask: Ask) -> int:
    frees = [there.free_gpu(gpu.id)[1] for gpu in there.gpus_of[row]]
    usable = [free for free in frees if free >= ask.compute_milli]
    enough = len(usable) >= ask.gpus and there.free_node(there.nodes[row].id)[0] >= ask.cpu_milli
    return sum(usable) if enough else 0


def _worth(rule: Rule, there: Cluster, kinds: list[Ask]) -> list[float]:
    targets = rule.targets(there, Mix.of(kinds).shares)
    assert targets is not None
    return [float(worth) for worth in rule.worth(states_of(there, np.arange(len(there)), 0.0), targets)]


@given(worlds())
def test_scores_are_numbers_wherever_there_is_room(world: World) -> None:
    there = world.cluster()
    for rule in (*RULES.values(), FgdAsPublished(), BestFitAsPublished()):
        placer = Placer(there, rule, Mix.of(world.asks))
        for ask in world.asks:
            assert not np.isnan(placer.scores(ask)).any()


def test_uncounted_cpus_do_not_drown_the_rest_of_a_score() -> None:
    there = cluster({"a": [80], "b": [80]}, cpu_milli=0)
    there.take(spot("b/0"), Ask(gpu_bytes=GIB))
    assert there.free_node(NodeId("a"))[0] == UNCOUNTED
    for rule in ("best-fit", "fgd"):
        assert chosen(there, RULES[rule], Ask(gpu_bytes=GIB)) == ("b/0",)


def test_the_name_of_each_policy_is_its_key() -> None:
    assert {name: rule.name for name, rule in RULES.items()} == {
        name: name for name in ("best-fit", "dot-product", "fgd", "first-fit", "ours")
    }
