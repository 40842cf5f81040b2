"""What an autoscaling policy wants for every model that is in use, at one moment.

Unlike demand alone, a policy looks at the clock and at the last minutes. It is asked anew about a model whenever
something about the model has changed, and otherwise every ``TICK_S``: it is told the time of the model's last tick, or
of its load if that is newer, so that answers can be kept in between and still follow from the snapshot alone. The
models tick at different moments: no decision has to ask about all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import floor
from zlib import crc32

from packers.autoscale.context import Autoscaler, Scale, ScaleContext, next_start_s
from packers.load import ScaleMemory, aim_for
from packers.scaling import Roll, Standing, stand
from packers.state import State
from packers.types import Model, ModelId

TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class Question:
    """Equal ones have equal answers. ``keep_price``: see ScaleContext."""

    model: Model
    mine: Roll
    at_s: float
    keep_price: float
    rented: bool

    def same(self, model: Model, mine: Roll, at_s: float, keep_price: float, rented: bool) -> bool:
        unchanged = self.model is model and self.mine is mine and self.at_s == at_s
        return unchanged and self.keep_price == keep_price and self.rented == rented


@dataclass(frozen=True, slots=True)
class Answer:
    question: Question
    memory: ScaleMemory
    standing: Standing
    wanting: bool
    due_s: float


@dataclass(slots=True)
class Answers:
    """Of one policy, by model; kept by a State from one decision to the next."""

    by_model: dict[ModelId, Answer] = field(default_factory=dict)
    phases_s: dict[ModelId, float] = field(default_factory=dict)


@dataclass(slots=True)
class Scaled:
    """``standings`` of the models in use; ``wanting`` and ``due`` of them, by id; ``memories``: those that changed."""

    standings: dict[ModelId, Standing] = field(default_factory=dict)
    memories: list[tuple[ModelId, ScaleMemory]] = field(default_factory=list)
    wanting: list[ModelId] = field(default_factory=list)
    due: list[ModelId] = field(default_factory=list)


def scaled(state: State, now_s: float, policy: Autoscaler, answers: Answers) -> Scaled:
    state.settle()
    found = Scaled()
    contended = bool(state.outlook.wanting)
    models, rolls, known = state.models, state.outlook.rolls, answers.by_model
    for name in sorted(state.outlook.active):
        model, mine = models[name], rolls[name]
        at_s = _ticked(name, model, now_s, answers)
        rented = bool(state.surroundings.rented) and _rented(mine, state)
        price = 1.0 if rented or contended else 0.0
        answer = known.get(name)
        if answer is None or not answer.question.same(model, mine, at_s, price, rented):
            answer = known[name] = _ask(Question(model, mine, at_s, price, rented), policy)
        found.standings[name] = answer.standing
        if answer.wanting:
            found.wanting.append(name)
        if answer.due_s <= now_s:
            found.due.append(name)
        if answer.memory is not model.scale_memory and answer.memory != model.scale_memory:
            found.memories.append((name, answer.memory))
    return found


def _ticked(name: ModelId, model: Model, now_s: float, answers: Answers) -> float:
    phase_s = answers.phases_s.get(name)
    if phase_s is None:
        phase_s = answers.phases_s[name] = crc32(name.encode()) / 2**32 * TICK_S
    tick_s = floor((now_s - phase_s) / TICK_S) * TICK_S + phase_s
    return max(tick_s, min(model.load.at_s, now_s))


def _ask(question: Question, policy: Autoscaler) -> Answer:
    model, mine = question.model, question.mine
    scale: Scale = policy(_context(question))
    standing = stand(model, mine, scale.count, scale.why, scale.linger_s, not question.rented)
    wanting = standing.missing > 0 or standing.switched_off
    return Answer(question, scale.memory, standing, wanting, standing.due_s)


def _context(question: Question) -> ScaleContext:
    model, mine = question.model, question.mine
    start_s = next_start_s(model.startup, len(mine.asleep))
    ready, asleep = len(mine.ready) - mine.doubled, len(mine.asleep)
    aim = aim_for(model.target_in_flight, start_s, model.wait_s)
    memory, price = model.scale_memory, question.keep_price
    return ScaleContext(question.at_s, model, ready, mine.starting, asleep, start_s, memory, aim=aim, keep_price=price)


def _rented(mine: Roll, state: State) -> bool:
    """Some of its replicas are on GPUs that cost only while they are used."""
    return any(state.gpus[one.gpu].pool in state.surroundings.rented for one in (*mine.ready, *mine.asleep))
