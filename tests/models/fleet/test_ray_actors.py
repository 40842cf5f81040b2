"""What the nodes of Ray's table are called, and what the fleet makes of calls that fail."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from models.fleet.protocol import StartFailed, Superseded
from models.fleet.ray_actors import named
from models.fleet.ray_calls import ActorGone, CallBroken, ask, ask_until
from models.runtimes.protocol import EngineError

pytestmark = pytest.mark.anyio


def entry(ray_node: str, host: str = "", label: str = "", alive: bool = True) -> dict[str, Any]:
    labels = {"ray.io/node-id": ray_node, **({"roundhouse/node": label} if label else {})}
    return {"NodeID": ray_node, "Alive": alive, "NodeManagerHostname": host, "Labels": labels}


def names(*entries: dict[str, Any], here: str = "") -> list[str]:
    return [each.name for each in named(list(entries), here)]


def test_a_label_is_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_NODE", "me")
    assert names(entry("1" * 56, "box", "a"), entry("2" * 56, "box", "b"), here="1" * 56) == ["a", "b"]


def test_without_labels_it_is_the_host_and_this_node_knows_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_NODE", "me")
    assert names(entry("1" * 56, "head"), entry("2" * 56, "box"), here="1" * 56) == ["me", "box"]


def test_living_nodes_of_one_host_are_told_apart_and_a_dead_one_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_NODE", "me")
    assert names(entry("1" * 56, "box"), entry("2" * 56, "box")) == ["box-11111111", "box-22222222"]
    assert names(entry("1" * 56, "box", alive=False), entry("2" * 56, "box")) == ["box", "box"]
    assert names(entry("3" * 56, "me"), entry("4" * 56)) == ["me-33333333", "node-44444444"]


async def raising(problem: Exception) -> None:
    raise problem


def task_error(cause: Exception) -> RayTaskError:
    return RayTaskError("f", "traceback", cause)


async def test_what_an_engine_says_arrives_as_it_said_it() -> None:
    with pytest.raises(StartFailed, match=r"^no room$") as failed:
        await ask(raising(task_error(EngineError("no room", "memory"))))
    assert failed.value.fault == "memory"
    with pytest.raises(Superseded) as superseded:
        await ask(raising(task_error(Superseded(8))))
    assert superseded.value.epoch == 8


async def test_a_defect_on_the_node_is_no_sentence_for_callers() -> None:
    with pytest.raises(CallBroken, match="internal error on the node"):
        await ask(raising(task_error(ZeroDivisionError("secret"))))


async def test_an_actor_that_is_out_of_reach_is_gone_and_one_that_could_not_start_says_why() -> None:
    with pytest.raises(ActorGone):
        await ask(raising(ActorUnavailableError("for now", None)))
    died = ActorDiedError.from_task_error(RayTaskError("f", "Traceback\nNoGpus: no GPU on n", ValueError("x")))
    died._actor_init_failed, died.error_msg = True, "died\nmodels.fleet.devices.NoGpus: no GPU on n\n"
    with pytest.raises(ActorGone, match=r"could not start: models\.fleet\.devices\.NoGpus: no GPU on n"):
        await ask(raising(died))


async def test_nobody_waits_for_an_answer_from_a_node_that_is_over() -> None:
    ended = asyncio.Event()
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asked = asyncio.ensure_future(ask_until(never, ended))
    await asyncio.sleep(0)
    assert not asked.done()
    ended.set()
    with pytest.raises(ActorGone):
        await asked


async def test_an_answer_counts_even_where_the_end_comes_with_it() -> None:
    ended = asyncio.Event()
    ended.set()
    answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    answer.set_result(3)

    async def answering() -> int:
        return await answer

    assert await ask_until(answering(), ended) == 3
