"""One worker's share of a run: sends what its plan says, and keeps a row of every request."""

from __future__ import annotations

import functools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import gevent
from gevent.event import AsyncResult

from loadtests.client.call import UNFINISHED, Call
from loadtests.client.caller import Caller
from loadtests.client.moments import clock
from loadtests.generator.meter import Meter
from loadtests.load.plan import Arrival, Plan, phase_at
from loadtests.load.settings import Settings
from loadtests.load.wish import Conversation, Mix, Wish, Writer
from loadtests.outcome.health import Second, WorkerHealth
from loadtests.outcome.rows import Row, row_of

NOT_ANSWERED = "not answered when the load test ended"
REST_S = 0.1  # of a user who was refused: a service that refuses at once must not be hammered by a tight loop


@dataclass(slots=True)
class Share:
    """This worker is the ``number``-th of ``workers``; the run began, or begins, at ``zero_s`` of its clock."""

    number: int
    workers: int
    zero_s: float


@dataclass(slots=True)
class Batch:
    """What happened since the last one."""

    rows: list[Row] = field(default_factory=list)
    seconds: list[Second] = field(default_factory=list)
    health: WorkerHealth | None = None
    done: bool = False


class Worker:
    """``over``: nothing more will be sent and every answer has its end."""

    def __init__(self, settings: Settings, plan: Plan, writer: Writer, caller: Caller, share: Share) -> None:
        self.settings = settings
        self.plan = plan
        self.caller = caller
        self.share = share
        self.meter = Meter(caller, share.number, share.zero_s)
        self.over = False
        self.scripted = not plan.script
        self._writer = writer
        self._mix = Mix(settings)
        self._ended: deque[tuple[Call, Wish, int]] = deque()
        self._seconds: list[Second] = []
        self._waiting = 0  # conversations whose next turn is not due yet
        self._users = 0

    @property
    def run_s(self) -> float:
        """Since the run's beginning; negative before it."""
        return clock() - self.share.zero_s

    @property
    def begins(self) -> bool:
        """Whether users still begin something."""
        return not self.over and self.run_s < self.plan.end_s

    def schedule(self) -> None:
        """Of an open load: this worker's arrivals, each at its moment, whatever became of those before. Of a script:
        what the one worker is to play."""
        mine = self.plan.arrivals[self.share.number :: self.share.workers]
        self.meter.health.planned = len(mine) + len(self.plan.script)
        for arrival in mine:
            due_s = self.share.zero_s + arrival.at_s
            self.caller.at(due_s, functools.partial(self._arrive, arrival, due_s))

    def _arrive(self, arrival: Arrival, due_s: float) -> None:
        if not self.over:
            self._turn(Conversation(arrival.wish), due_s, self._after_turn)

    def _turn(
        self, conversation: Conversation, due_s: float | None, ended: Callable[[Conversation, Call], None]
    ) -> Call:
        call = Call(self._writer.next_ask(conversation), scheduled_s=due_s)
        self.caller.begin(call, functools.partial(self._record, conversation, conversation.turn, ended))
        self.meter.sent(0.0 if due_s is None else call.sent_s - due_s)
        return call

    def _record(
        self, conversation: Conversation, turn: int, ended: Callable[[Conversation, Call], None], call: Call
    ) -> None:
        self._ended.append((call, conversation.wish, turn))  # the row is made when nothing is waiting to be read
        if call.words:
            conversation.said.append(("assistant", "".join(call.words)))
        ended(conversation, call)

    def _row(self, call: Call, wish: Wish, turn: int) -> Row:
        zero_s, number = self.share.zero_s, self.share.number
        phase = phase_at(self.plan.phases, call.begun_s - zero_s)
        return row_of(call, zero_s, phase=phase, turn=turn, worker=number, tenant=wish.tenant, tag=wish.tag)

    def _after_turn(self, conversation: Conversation, call: Call) -> None:
        """Of an open load: the next turn is due when its caller has thought about the answer; not after the end."""
        due_s = (call.ended_s or clock()) + self.settings.think_s
        if call.error or not conversation.more or self.over or due_s >= self.share.zero_s + self.plan.end_s:
            return
        self.meter.health.planned += 1
        self._waiting += 1

        def begin() -> None:
            self._waiting -= 1
            if not self.over:
                self._turn(conversation, due_s, self._after_turn)

        self.caller.at(due_s, begin)

    def ask(self, conversation: Conversation) -> Call:
        """One turn, waited for by this greenlet; ended with it."""
        answered: AsyncResult = AsyncResult()
        call = self._turn(conversation, None, lambda _, done: answered.set(done))
        try:
            answered.get()
        except BaseException:
            self.caller.abort(call, UNFINISHED, NOT_ANSWERED)
            raise
        return call

    def user(self) -> Callable[[], None]:
        """One user of a closed load: a conversation, and as soon as that is over the next."""
        self._users += 1
        rng = random.Random(f"user/{self.settings.seed}/{self.share.number}/{self._users}")
        gevent.sleep(rng.uniform(0.0, self.settings.spread_s))  # users are not in step with each other

        def converse() -> None:
            conversation = Conversation(self._mix.draw(rng))
            while conversation.more and self.begins:
                self.meter.health.planned += 1
                if self.ask(conversation).error:
                    gevent.sleep(REST_S)
                    return
                if conversation.more:
                    gevent.sleep(self.settings.think_s)

        return converse

    def one(self, wish: Wish) -> Call:
        """A single request, of a script."""
        return self.ask(Conversation(wish))

    def quiet(self) -> bool:
        """Whether the run's time is over, or its script, and nothing is open."""
        ended = self.run_s >= self.plan.end_s if not self.plan.script else self.scripted
        return ended and not self.caller.open_calls and not self._waiting

    def finish(self) -> None:
        """Whatever is open now was not answered."""
        self.over = True
        self.caller.abort_all(UNFINISHED, NOT_ANSWERED)

    def look(self) -> None:
        """Once a second."""
        self._seconds.append(self.meter.look())

    def take(self, most: int) -> Batch:
        """What happened since the last time, but not more than so many requests; ``done`` comes with the last ones."""
        seconds, self._seconds = self._seconds, []
        rows = [self._row(*self._ended.popleft()) for _ in range(min(most, len(self._ended)))]
        health = self.meter.report()
        health.shortened = self._writer.shortened
        health.retried = self.caller.retried
        return Batch(rows, seconds, health, done=self.over and not self._ended)

    @property
    def untold(self) -> int:
        """Ended requests that ``take`` has not given yet."""
        return len(self._ended)
