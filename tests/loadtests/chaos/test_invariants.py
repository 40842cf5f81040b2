from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtests.chaos.census import Process
from loadtests.chaos.invariants import of_engines, of_ledger, off_the_ledger, reserved_replicas
from tests.loadtests.chaos.results import ledger


def engine(replica: str, pid: int = 1) -> Process:
    return Process(pid, 10, 1, "engine", replica)


def test_a_ledger_that_holds() -> None:
    assert of_ledger(ledger(("steady-1", 0, 400), ("steady-2", 0, 600), ("cold-1", 1, 1000))) == []


def test_more_is_reserved_than_there_is() -> None:
    (wrong,) = of_ledger(ledger(("steady-1", 0, 400), ("steady-2", 0, 601)))
    assert wrong == "1001 bytes of n/gpu-0 are reserved, it has 1000"


def test_the_sum_that_is_said_is_another_one() -> None:
    shown = ledger(("steady-1", 0, 400))
    shown["gpus"][0]["reserved_bytes"] = 100
    assert of_ledger(shown) == ["100 bytes of n/gpu-0 are said to be reserved, its entries say 400"]


def test_host_ram_counts_as_well() -> None:
    shown = ledger()
    shown["nodes"][0] |= {"reserved_bytes": 1200, "entries": [{"replica_id": "big-a-1", "host_bytes": 1200}]}
    assert of_ledger(shown) == ["1200 bytes of n's RAM are reserved, it has 1000"]
    assert reserved_replicas(shown) == {"big-a-1"}


def test_a_replica_on_two_gpus() -> None:
    assert of_ledger(ledger(("cold-1", 0, 1), ("cold-1", 1, 1))) == ["cold-1 is on the ledger 2 times"]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 400)), max_size=12))
def test_it_is_wrong_exactly_when_a_gpu_holds_more_than_it_has(places: list[tuple[int, int]]) -> None:
    shown = ledger(*((f"r-{number}", gpu, taken) for number, (gpu, taken) in enumerate(places)))
    over = [gpu for gpu in (0, 1) if sum(taken for at, taken in places if at == gpu) > 1000]
    assert len(of_ledger(shown)) == len(over)


def test_engines_that_may_live_side_by_side() -> None:
    assert of_engines([engine("steady-a1"), engine("steady-b2"), engine("cold-c3"), engine("big-a-d4")]) == []


def test_two_engines_of_one_replica() -> None:
    wrong = of_engines([engine("cold-c3", 1), engine("cold-c3", 2)])
    assert "2 engines of cold-c3 live at once" in wrong


def test_more_engines_than_a_model_may_have() -> None:
    three = [engine("steady-a"), engine("steady-b"), engine("steady-c")]
    assert of_engines(three) == ["3 engines of steady live at once, which may have 2"]
    assert of_engines([engine("cold-a"), engine("cold-b")]) == ["2 engines of cold live at once, which may have 1"]


def test_one_that_leaves_does_not_count_but_never_lives_twice() -> None:
    three = [engine("steady-a"), engine("steady-b"), engine("steady-c")]
    assert of_engines(three, leaving=frozenset({"steady-a"})) == []
    twice = [engine("cold-a", 1), engine("cold-a", 2)]
    assert of_engines(twice, leaving=frozenset({"cold-a"})) == ["2 engines of cold-a live at once"]


def test_models_of_others_are_not_counted() -> None:
    assert of_engines([engine("tiny-llama-1"), engine("tiny-llama-2"), engine("tiny-llama-3")]) == []


def test_an_engine_without_a_place_on_the_ledger() -> None:
    stray = engine("cold-2")
    assert off_the_ledger([engine("cold-1"), stray], ledger(("cold-1", 0, 1))) == [stray]
