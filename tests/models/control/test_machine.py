"""Any order of events, orders, crashes and outages: what has to hold of the controller after each of them.

1. The ledger is within capacity and says what packers say; nothing lives without a reservation (``Cluster.check``).
2. No replica is on record twice, and what is on record went there by the table of ``models.control.lifecycle``.
3. Nothing began that was not on record before.
4. Deciding a recorded step again gives the same plan.
5. The pictures of GPUs, put one after the other, show the ledger.
6. In the end everybody who waited was served, or was told why not.
"""

from __future__ import annotations

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis.exceptions import ConnectionError as RedisDown

from models.catalog.card import ModelCard
from models.control.lifecycle import AFTER
from models.control.messages import CatalogChanged
from models.control.recording import Step, decode_line, encode_line
from models.fleet.virtual import settle
from models.store.records import DecisionRecord, FleetRecord, ModelRecord, RouteTable
from models.store.usage import GpuPicture
from packers.decide import decide
from packers.types import GpuId, ReplicaId, ReplicaState
from tests.models.control.cluster import Cluster, names, node
from tests.models.control.pictures import ledger_of, replayed
from tests.models.control.scene import RecordingStore, card
from tests.models.control.stored_scene import never_begun

SIZES = {"a": 60, "b": 60, "c": 30, "d": 90}
models = st.sampled_from(sorted(SIZES))
numbers = st.integers(0, 7)
# What a record may show next, several things having happened between two of them.
REACHED = {
    state: {state, *row.values(), *(last for mid in row.values() for last in AFTER[mid].values())}
    for state, row in AFTER.items()
}


class WatchedStore(RecordingStore):
    """Looks at what is written, as it is written."""

    def __init__(self) -> None:
        super().__init__()
        self.on_record: set[str] = set()
        self.last: dict[str, str] = {}  # states, as this controller has written them

    async def write(
        self,
        fleet: FleetRecord,
        routes: RouteTable,
        catalog: tuple[ModelRecord, ...],
        decisions: tuple[DecisionRecord, ...],
        pictures: tuple[GpuPicture, ...] = (),
    ) -> None:
        await super().write(fleet, routes, catalog, decisions, pictures)
        listed = [one.replica_id for one in fleet.replicas]
        assert len(set(listed)) == len(listed), "on record twice"
        for one in fleet.replicas:
            was = self.last.get(one.replica_id)
            if was is not None:
                assert ReplicaState(one.state) in REACHED[ReplicaState(was)], f"{one.replica_id}: {was} -> {one.state}"
        self.last = {one.replica_id: one.state for one in fleet.replicas}
        self.on_record.update(listed)


class Played(Cluster):
    """Goes on where Redis does not answer, as ``Controller.run`` does."""

    def __init__(self) -> None:
        cards = [card(name, size, ttl=20, max_replicas=2 if name == "c" else 1) for name, size in SIZES.items()]
        super().__init__(cards, [node(name, 100, 100, host_mib=120) for name in names(2)])
        self.all_cards = cards
        self.watched = self.store = self.controller._store = self.controller._scribe._store = WatchedStore()
        self.order("record", for_s=3600.0)

    async def run(self, seconds: float, step_s: float = 0.01) -> None:
        for _ in range(round(seconds / step_s)):
            self.gateway_alive = self.store.broken is None
            try:
                await super().run(step_s, step_s)
            except RedisDown:
                await settle()
                await self.clock.advance(step_s)

    async def catalog(self, cards: list[ModelCard]) -> None:
        self.cards = cards
        self.controller.post(CatalogChanged(config=None))  # type: ignore[arg-type]
        await self.run(0.05)

    def _serve(self) -> None:
        """Also: a model that the table does not have is answered 404."""
        super()._serve()
        known = {route.model_id for route in self.store.routes.models}
        self.held = {model: since for model, since in self.held.items() if model in known}


class Machine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.Runner()
        self.scene = self.loop.run(self._made())
        self.orders: list[str] = []
        self.replayed = 0

    async def _made(self) -> Played:
        scene = Played()
        await scene.run(0.05)
        return scene

    def teardown(self) -> None:
        if hasattr(self, "scene"):
            self.loop.run(self._in_the_end())
            self.loop.close()

    async def _in_the_end(self) -> None:
        scene = self.scene
        scene.store.broken, scene.busy = None, {}
        scene.fleet.fail_start.clear()
        for here in names(2):
            for gpu in list(scene.fleet._nodes.get(here).lost_gpus):
                await scene.fleet.gpu_back(gpu)
            await scene.fleet.join_node(node(here, 100, 100, host_mib=120))
        await scene.run(6, step_s=0.1)
        await scene.catalog(scene.all_cards)
        for gpu in [gpu.id for gpu in scene.controller.world.gpus if gpu.cordoned]:
            scene.order("undrain", gpu=gpu)
        await scene.run(6, step_s=0.1)
        for name in SIZES:
            scene.order("wake", name, wait=False)
            scene.hold(name)
            await scene.run(8, step_s=0.1)
            assert name not in scene.held, f"{name} fits, and still waits: {scene.states()}"
            scene.check()
        unanswered = [order for order in self.orders if scene.reply(order) is None]
        assert unanswered == [], f"never answered: {unanswered}"
        for task in tuple(scene.controller._tasks):
            task.cancel()
        await settle()

    # -- what happens --------------------------------------------------------------------------------------------

    def _play(self, seconds: float = 0.03) -> None:
        self.loop.run(self.scene.run(seconds))

    @rule(model=models)
    def somebody_calls(self, model: str) -> None:
        if any(known.model_id == model for known in self.scene.cards):
            self.scene.hold(model)
            self._play()

    @rule(tenths=st.integers(1, 40))
    def time_passes(self, tenths: int) -> None:
        self.loop.run(self.scene.run(tenths / 10, step_s=0.05))

    @rule(number=numbers, count=st.integers(0, 2))
    def requests_run(self, number: int, count: int) -> None:
        ready = sorted(replica for replica, state in self.scene.states().items() if state == "ready")
        self.scene.busy = {ready[number % len(ready)]: count} if ready and count else {}
        self._play()

    @rule(number=numbers)
    def an_engine_dies(self, number: int) -> None:
        alive = sorted(self.scene.fleet.engines)
        if alive:
            self.loop.run(self.scene.fleet.kill(ReplicaId(alive[number % len(alive)])))
            self._play()

    @rule(model=models, verb=st.sampled_from(["wake", "sleep", "stop"]), wait=st.booleans())
    def an_operator_orders(self, model: str, verb: str, wait: bool) -> None:
        self.orders.append(self.scene.order(verb, model, wait=wait))
        self._play()

    @rule(gpu=st.sampled_from(["n00/gpu-0", "n01/gpu-1"]), verb=st.sampled_from(["drain", "undrain"]))
    def an_operator_empties_a_gpu(self, gpu: str, verb: str) -> None:
        self.scene.order(verb, gpu=gpu, wait=False)
        self._play()

    @rule(model=models, broken=st.booleans())
    def starts_fail_or_do_not(self, model: str, broken: bool) -> None:
        self.scene.fleet.fail_start.pop(model, None)
        if broken:
            self.scene.fleet.fail_start[model] = "it is broken"

    @rule(remembers=st.booleans())
    def the_controller_dies(self, remembers: bool) -> None:
        """With what it has not written down. Who gave it an order asks the next one."""
        self.orders.clear()
        self.scene.watched.last.clear()  # what was draining serves as well as it did: that is decided again
        never_begun(self.scene.controller)
        self.loop.run(self.scene.restart_controller(remembers))
        self.scene.controller._scribe._store = self.scene.store
        self.scene.order("record", for_s=3600.0)
        self._play()

    @rule(seconds=st.integers(2, 40))
    def the_controller_is_suspended(self, seconds: int) -> None:
        self.loop.run(self.scene.clock.advance(float(seconds)))
        self._play()

    @rule()
    @precondition(lambda self: self.scene.store.broken is None)
    def redis_goes(self) -> None:
        self.scene.store.broken = RedisDown("gone")
        self._play()

    @rule()
    @precondition(lambda self: self.scene.store.broken is not None)
    def redis_comes(self) -> None:
        self.scene.store.broken = None
        self._play()

    @rule(model=models, change=st.sampled_from(["removed", "there", "other"]))
    def the_catalog_changes(self, model: str, change: str) -> None:
        cards = {known.model_id: known for known in self.scene.cards}
        cards.pop(model, None)
        if change != "removed":
            args = {"max_model_len": 5} if change == "other" else {}
            (first,) = (known for known in self.scene.all_cards if known.model_id == model)
            cards[model] = first.model_copy(update={"engine_args": args})
        self.loop.run(self.scene.catalog(list(cards.values())))

    @rule(place=st.integers(0, 1), what=st.sampled_from(["away", "back", "lost"]))
    def a_node_comes_and_goes(self, place: int, what: str) -> None:
        name, fleet = names(2)[place], self.scene.fleet
        there, known = fleet._nodes.answers(name), fleet._nodes.get(name)
        if what == "away" and there:
            self.loop.run(fleet.node_away(name))
        elif what == "back" and not there:
            self.loop.run(fleet.join_node(node(name, 100, 100, host_mib=120)))
        elif what == "lost" and not known.given_up:
            self.loop.run(fleet.lose_node(name))
        self._play()

    @rule(place=st.integers(0, 1))
    def a_gpu_is_lost(self, place: int) -> None:
        gpu = GpuId(f"n00/gpu-{place}")
        if gpu not in self.scene.fleet._nodes.of_gpu(gpu).lost_gpus:
            self.loop.run(self.scene.fleet.lose_gpu(gpu, "Xid 79"))
            self._play()

    # -- what has to hold ----------------------------------------------------------------------------------------

    @invariant()
    def the_ledger_holds(self) -> None:
        if hasattr(self, "scene"):
            self.scene.check()

    @invariant()
    def the_pictures_of_gpus_show_the_ledger(self) -> None:
        if hasattr(self, "scene") and self.scene.store.broken is None:
            assert replayed(self.scene.store.pictures) == ledger_of(self.scene.controller.world)

    @invariant()
    def nothing_began_that_was_not_on_record(self) -> None:
        if hasattr(self, "scene"):
            began = {call.removeprefix("start ") for call in self.scene.fleet.calls if call.startswith("start ")}
            assert began <= self.scene.watched.on_record

    @invariant()
    def deciding_again_gives_the_same(self) -> None:
        if not hasattr(self, "scene"):
            return
        lines, self.scene.store.lines = self.scene.store.lines, []
        for line in lines:
            if isinstance(line, Step):
                read = decode_line(encode_line(line))
                assert isinstance(read, Step)
                assert decide(read.snapshot, read.policies) == line.plan


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
