"""Room for what nobody waits for, and in which order batches get it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from gateway.batches.desk import fair
from gateway.batches.room import LATE_S, Room, spare
from gateway.batches.store import Named
from models.store.records import ModelDemand, ModelRoute, ReplicaRoute


def model(*slots: int, state: str = "ready", name: str = "m") -> ModelRoute:
    replicas = tuple(
        ReplicaRoute(replica_id=f"{name}-{number}", endpoint="unix:/x", state=state, slots=places)
        for number, places in enumerate(slots)
    )
    return ModelRoute(model_id=name, aliases=("alias",), replicas=replicas)


def test_an_eighth_is_left_free() -> None:
    assert spare(model(16), held=0, in_flight=0) == 14
    assert spare(model(16, 16), held=0, in_flight=10) == 18
    assert spare(model(4), held=0, in_flight=3) == 0
    assert spare(model(1), held=0, in_flight=0) == 1, "a model with one place would never be used else"
    assert spare(model(0), held=0, in_flight=0) == 7, "not known: a little"


def test_nothing_while_somebody_waits() -> None:
    assert spare(model(100), held=1, in_flight=0) == 0


def test_one_request_starts_a_model() -> None:
    assert spare(model(), held=0, in_flight=0) == 1
    assert spare(model(8, state="draining"), held=0, in_flight=0) == 1
    assert spare(model(), held=0, in_flight=1) == 0


@dataclass
class World:
    route: ModelRoute | None
    demand: dict[str, ModelDemand] = field(default_factory=dict)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        async def look_up() -> dict[str, ModelDemand]:
            return self.demand

        self.room = Room(lambda name: self.route, look_up, lambda: self.now_s)

    def look(self, in_flight: int, after_s: float = LATE_S, held: int = 0) -> None:
        self.now_s += after_s
        self.demand["m"] = ModelDemand(in_flight=in_flight, held=held)
        asyncio.run(self.room.look())

    def take_all(self) -> int:
        count = 0
        while self.room.take("alias") is not None:
            count += 1
        return count


def test_what_was_taken_here_counts_at_once_and_once() -> None:
    world = World(model(16))
    assert world.take_all() == 14
    world.look(in_flight=0, after_s=0.1)
    assert world.take_all() == 0, "others have not told yet of what was taken"
    world.look(in_flight=14)
    world.look(in_flight=14)
    assert world.take_all() == 0
    world.room.give_back("m")
    assert world.take_all() == 1


def test_others_come_first() -> None:
    world = World(model(16))
    world.look(in_flight=10)
    assert world.take_all() == 4
    world.look(in_flight=14)
    world.look(in_flight=16)  # two more callers
    for _ in range(2):
        world.room.give_back("m")
    assert world.take_all() == 0
    world.look(in_flight=2, held=1)
    assert world.take_all() == 0, "somebody waits"
    world.look(in_flight=2)
    assert world.take_all() == 12


@given(
    others=st.lists(st.integers(min_value=0, max_value=20), min_size=1, max_size=10),
    late=st.integers(min_value=0, max_value=2),
)
def test_never_more_than_there_is_however_late_others_tell(others: list[int], late: int) -> None:
    """Each step: some finish, a report of ``late`` steps ago comes in, what there seems to be room for is taken."""
    world = World(model(16))
    mine, reports = 0, [others[0]] * 3
    for theirs in others:
        if mine:
            world.room.give_back("m")
            mine -= 1
        world.look(in_flight=reports[-1 - late], after_s=LATE_S / 4)
        mine += world.take_all()
        assert mine <= max(0, 14 - min(others)), "what was always taken by others was never given away"
        reports.append(theirs + mine)


def test_a_model_that_nobody_has_is_no_reason_to_wait() -> None:
    world = World(None)
    place = world.room.take("gone")
    assert place == "gone"
    world.room.give_back(place)


def test_everybodys_first_batch_before_anybodys_second() -> None:
    named = [Named("ann", f"a{number}", number) for number in range(5)] + [
        Named("bob", "b0", 100),
        Named("eve", "e", 3),
    ]
    assert [batch.id for batch in fair(named)] == ["a0", "e", "b0", "a1", "a2", "a3", "a4"]
