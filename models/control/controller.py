"""The loop: observe -> decide -> apply.

One step (``Controller.step``):
1. observe: take every message from the inbox into the world (what the fleet reports: ``models.control.replicas``);
2. finish: drain engines whose card has changed, give replicas that have drained to the fleet for sleep or stop
   (``models.control.endings``), and bring the ledger to what was measured (``models.control.reconcile``);
3. decide: one snapshot, one plan (``packers.decide``), from a State that follows the snapshots (``Mirror``);
4. apply (``models.control.execution``): change the ledger and the replicas' states, note each decision and its reasons;
5. write: the new state goes to Redis (``flush``), and only then do the fleet's actions begin.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from redis.exceptions import RedisError

from models.catalog.card import ModelCard
from models.control.actions import Actions
from models.control.adoption import Adopter
from models.control.catalog import Entry
from models.control.commands import CommandDesk
from models.control.defragging import VERBS as DEFRAG_VERBS
from models.control.defragging import DefragDesk
from models.control.endings import Endings
from models.control.execution import Execution
from models.control.journal import Journal
from models.control.messages import (
    CatalogChanged,
    CatalogRejected,
    ContentChanged,
    Message,
    NodeGone,
    Ordered,
    Reported,
)
from models.control.mirror import Mirror
from models.control.node_orders import NodeOrders, of_node
from models.control.nodes import NodeDesk
from models.control.pools import PoolBook
from models.control.reconcile import Reconciler
from models.control.recorder import Recorder
from models.control.recording import Step
from models.control.replicas import ReplicaDesk
from models.control.reserved import Reserved
from models.control.scribe import Scribe
from models.control.senses import Senses
from models.control.slate import Slate
from models.control.store import ControlStore, LeaseLost, StateForgotten
from models.control.tracked import Tracked
from models.control.warming import WarmDesk
from models.control.weights_desk import VERB as WEIGHTS_VERB
from models.control.weights_desk import WeightsDesk
from models.control.work import Work
from models.control.world import World
from models.fleet.protocol import FleetNode, GpuBack, GpuLost, NodeAway, NodeJoined, NodeLeaving, Superseded
from models.runtimes.protocol import EngineStatus
from models.store.records import CommandReply, ModelRoute, RouteTable
from models.store.usage import GpuPicture
from packers.decide import Policies, decide_on
from packers.ledger import LedgerError
from packers.types import Hold, ModelId, Refuse, ReplicaId

log = logging.getLogger("roundhouse.control")
TICK_S = 0.1
QUESTIONS = ("snapshot", WEIGHTS_VERB)  # orders that change nothing
HEARTBEAT_S = 1.0  # the state is written at least this often: figures stay fresh, the lease stays held


class Controller:
    """The one writer. Everything else puts messages in its inbox (``post``)."""

    def __init__(
        self,
        world: World,
        actions: Actions,
        store: ControlStore,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float] | None = None,
        new_replica_id: Callable[[ModelId], ReplicaId],
        load_catalog: Callable[[CatalogChanged], dict[ModelId, Any]],
        load_policies: Callable[[CatalogChanged], tuple[Policies, PoolBook]] | None = None,
        reread: Callable[[ModelCard], Entry] | None = None,
        policies: Policies | None = None,
        drain_timeout_s: float = 30.0,
        remain: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``remain``: has the nodes confirm that this controller is in office when the store has forgotten it."""
        self.world = world
        self._actions = actions
        self._store = store
        self._clock = clock
        self._load_catalog = load_catalog
        self._load_policies = load_policies
        self._reread = reread
        self._policies = policies or Policies()
        self._remain = remain
        self.senses = Senses()
        self._deposed: Exception | None = None  # what told that a later controller is in office
        self._replies: list[CommandReply] = []  # that could not be given yet
        self._inbox: list[Message] = []
        self._rung = asyncio.Event()
        self._work = Work()  # fleet actions, which wait for the state to be written
        self._tasks: set[asyncio.Task[None]] = set()
        self.journal = Journal(world)
        self._mirror = Mirror()
        recorder = Recorder()
        self._slate = slate = Slate()
        self._endings = endings = Endings(world, self.journal, actions, self._work, slate, self.post, drain_timeout_s)
        self._reconciler = Reconciler(world, self.journal, endings.drain, lambda: self._policies)
        self._replicas = ReplicaDesk(world, self.journal, self._reconciler, clock)
        self.adopter = Adopter(world, self.journal, adopt=self.adopt, put_down=self.put_down)
        self.nodes = NodeDesk(
            world,
            self.journal,
            self._replicas,
            self.adopter,
            self._work,
            put_down=self.put_down,
            drain=endings.put_out,
        )
        endings.must_end = self.nodes.must_end
        self._node_orders = NodeOrders(world, self.nodes, lambda: self._policies)
        self._desk = CommandDesk(world, endings.put_out, recorder, self.journal)
        self._warming = WarmDesk(world, self.journal, wall or clock)
        self._weights = WeightsDesk(world, actions.weights, self._spawn)
        self._defrag = DefragDesk(world, self.journal, endings.put_out)
        self._execution = Execution(
            world,
            self.journal,
            actions,
            self._work,
            slate,
            endings,
            self._defrag,
            new_replica_id=new_replica_id,
            post=self.post,
        )
        self._scribe = Scribe(store, recorder, self._spawn, clock())
        self._routed: tuple[ModelRoute, ...] | None = None  # the table that the version counts
        self._written_s = 0.0
        self._closed = False

    # -- the loop ------------------------------------------------------------------------------------------------

    def post(self, message: Message) -> None:
        self._inbox.append(message)
        self._rung.set()

    async def run(self) -> None:
        """Until ``close``; on every message and at least every TICK_S. Raises LeaseLost, Superseded."""
        while not self._closed:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._rung.wait()
            except TimeoutError:
                pass
            self._rung.clear()
            if self._deposed is not None:
                raise self._deposed
            try:
                self.step()
                await self.flush()
                await self.catch_up()
            except (LeaseLost, Superseded):
                raise
            except RedisError:  # ``flush`` has told the senses
                await asyncio.sleep(TICK_S)
            except Exception:
                log.exception("a step failed; the loop goes on")
                await asyncio.sleep(TICK_S)

    async def catch_up(self) -> None:
        """Look at what a step had no time for, in small pieces: whatever comes meanwhile goes first."""
        await asyncio.sleep(0)  # what was just begun goes first
        while self.world.census.behind and not self._inbox:
            now = self._clock()
            self.world.look_on(now)
            with suppress(LedgerError):  # a bug: the step will tell of it
                self._mirror.follow(self.world.snapshot(now)).settle()
            self._rung.set()  # and then decide
            await asyncio.sleep(0)

    def adopt(self, tracked: Tracked, status: EngineStatus) -> None:
        """Take over a replica found alive; its memory is reserved already."""
        self.world.replicas[tracked.id] = tracked
        self._work.order(tracked.id, self._actions.adopt(tracked, status, self.post))
        self.journal.note("adopt", tracked, f"{tracked.id} was found {status.state} and re-adopted")

    def put_down(self, replica: ReplicaId) -> None:
        """Stop an engine that has no place in this world."""
        self._work.order(replica, self._actions.end(replica, self.post))

    def look_again(self, node: FleetNode) -> None:
        """It is there, and did not say what runs on it."""
        self._work.order(ReplicaId(f"on {node.id}"), self._actions.find(node, self.post))

    def close(self) -> None:
        self._closed = True
        self._rung.set()

    async def leave(self) -> None:
        """Write down that nothing runs any more: every engine has been ended on purpose."""
        self.close()
        self.world.close(self._clock())
        for replica in list(self.world.replicas):
            self._replicas.gone(replica, "the service was stopped")
        self.journal.note_text("shutdown", None, "the service was stopped, and every engine with it")
        self._slate.dirty = True
        await self.flush()
        await self._store.remember(self.world.history.remembered(self._clock()))

    def step(self) -> None:
        now = self.world.now = self._clock()
        self.senses.look(self.world.demand, now)
        self._take_in(now)  # 1. observe
        self.world.refresh_use(now)
        if not self.senses.may_decide(self.world.demand, now):
            self.world.snapshot(now)  # what has come is to be shown all the same
            return
        traffic = self.world.refresh_history(now)
        self._endings.retire_outdated(now)
        self._endings.finish_drained(now)  # 2. finish
        self._slate.dirty |= self.nodes.settle(now) | self._replicas.settle(now)
        self._reconciler.settle(now)
        self._slate.dirty |= self._warming.settle() | self._defrag.follow(now)
        policies = self._defrag.policies(self._policies)
        self.world.seq += 1
        snapshot = self.world.snapshot(now)
        for news in self.world.reserved.news():
            self.journal.note_text("reservation", None, news)
        try:
            state = self._mirror.follow(snapshot)
            plan = decide_on(state, snapshot.id, now, policies)  # 3. decide
        except LedgerError:  # a bug: no new decisions, but what was begun goes on
            log.exception("snapshot %s holds more than there is", snapshot.id)
            return
        self._scribe.decided(Step(snapshot=snapshot, policies=policies, plan=plan), traffic)
        self.world.history.decided(plan)
        self.journal.decides_on(state)
        self._slate.dirty |= self._defrag.decided(state, plan, self._policies, now)
        for action in plan.actions:  # 4. apply
            self._execution.carry_out(action, now)
        self.journal.forget_holds({a.model for a in plan.actions if isinstance(a, Hold | Refuse)})
        self._warming.decided(plan)

    async def flush(self) -> None:
        """5. write, then let the fleet begin. What could not be written stays pending."""
        now, world, decisions = self._clock(), self.world, self.journal.pending
        changed = self._slate.dirty or bool(decisions) or bool(self._work)
        if changed or now - self._written_s >= HEARTBEAT_S or not self.senses.store_answers:
            shown = world.shown()
            if shown.routes is not self._routed or self._slate.renumber:
                self._routed, self._slate.renumber = shown.routes, False
                world.routes_version += 1
            routes = RouteTable(version=world.routes_version, models=shown.routes)
            world.draw()
            await self._write(partial(self._store.write, world.fleet_record(now), routes, shown.records, decisions))
            self.journal.written(len(decisions))
            self._slate.dirty, self._written_s = False, now
        for work in self._work.take():
            self._spawn(work)
        self._replies += [*self._desk.due(), *self._warming.due(), *self._defrag.due(), *self._node_orders.due()]
        self._replies += self._weights.due()
        while self._replies:
            await self._store.reply(self._replies[0])
            del self._replies[0]
        self._scribe.write(world, now)

    async def _write(self, write: Callable[[tuple[GpuPicture, ...]], Awaitable[None]]) -> None:
        try:
            try:
                await write(self.world.occupancy.pending)
            except StateForgotten:
                if self._remain is None:
                    raise
                await self._remain()
                self._scribe.rewrite()
                self.world.occupancy.rewrite(self.world.now)
                await write(self.world.occupancy.pending)
        except RedisError as problem:
            self.senses.could_not_write(problem)
            raise
        self.world.occupancy.written()
        self.senses.wrote()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        problem = None if task.cancelled() else task.exception()
        if isinstance(problem, LeaseLost | Superseded):
            self._deposed = problem
            self._rung.set()
        elif problem is not None:
            log.error("a fleet action failed", exc_info=problem)

    # -- 1. observe ----------------------------------------------------------------------------------------------

    def _touch(self, message: Message) -> None:
        """What a message is about has to be looked at again; of demand, the reports themselves tell what changed."""
        if isinstance(message, Reported):
            return
        tracked = self.world.replicas.get(replica) if (replica := getattr(message, "replica", None)) else None
        if tracked is not None:
            self.world.census.touch(tracked.model)
        else:
            self.world.census.touch_all()

    def _take_in(self, now: float) -> None:
        """Everything in the inbox. Where one message raises, the others are still there for the next step."""
        inbox, self._inbox = self._inbox, []
        for place, message in enumerate(inbox):
            try:
                self._touch(message)
                self._observe(message, now)
            except Exception:
                self._inbox[:0] = inbox[place + 1 :]
                if isinstance(message, Ordered):
                    text = "an internal error; see the controller's log"
                    self._replies.append(
                        CommandReply(id=message.command.id, ok=False, message=text, code="internal_error")
                    )
                raise

    def _observe(self, message: Message, now: float) -> None:
        match message:
            case Reported(report):
                self.world.demand.put(report, now)
                if report.routes_version > self.world.routes_version:
                    # Its table is one that the store has lost. A smaller number would look old to gateways.
                    self.world.routes_version = report.routes_version
                    self._slate.dirty = self._slate.renumber = True
                return
            case Ordered(command) if command.verb in QUESTIONS:
                (self._weights.take if command.verb == WEIGHTS_VERB else self._scribe.show)(command)
                return
            case Ordered(command) if command.verb == "warm":
                self._warming.take(command, now)
            case Ordered(command) if command.verb in DEFRAG_VERBS:
                self._defrag.take(command, now)
            case Ordered(command) if of_node(command):
                self._node_orders.take(command, now)
            case Ordered(command):
                self._desk.take(command, now)
            case CatalogChanged():
                self._catalog_changed(message)
            case CatalogRejected(error):
                self.world.config_error = error
            case ContentChanged(model):
                self._content_changed(model)
            case NodeJoined() | NodeAway() | NodeGone() | NodeLeaving() | GpuLost() | GpuBack():
                self.nodes.take(message, now)
            case _:
                self._slate.dirty |= self._replicas.take(message, now)
                return
        self._slate.dirty = True

    def _catalog_changed(self, message: CatalogChanged) -> None:
        before, after = self.world.entries, self._load_catalog(message)
        self.world.entries = after
        self.world.config_error = None
        if self._load_policies is not None:
            self._policies, self.world.pools = self._load_policies(message)
            self._reserve(Reserved(message.config.reservations))
        for model in before.keys() - after.keys():
            self.world.history.forget(model)
            self.world.operator_wakes.pop(model, None)
        for model in before.keys() | after.keys():
            old, new = before.get(model), after.get(model)
            if old is None or new is None or old.card.hash != new.card.hash:
                self.world.failures.forget(model)
                self.world.suspects.discard(model)
        self.world.history.keep(self.world.revision(entry) for entry in after.values())
        self.journal.note_text("catalog", None, f"configuration reloaded: {len(after)} models")

    def _reserve(self, reserved: Reserved) -> None:
        if reserved.settings != self.world.reserved.settings:
            self.world.reserved = reserved
            self.world.failures.room_came()  # for those to whom others' reservations left none
            self.world.census.touch_all()

    def _content_changed(self, model: ModelId) -> None:
        """Whatever was wrong with its files: they are others now, so its next start is a first one."""
        entry = self.world.entries.get(model)
        if entry is not None and self._reread is not None:
            self.world.entries[model] = self._reread(entry.card)
        self.world.failures.forget(model)
        self.journal.note_text("catalog", model, f"the files of {model} are others now: it may be started again")
