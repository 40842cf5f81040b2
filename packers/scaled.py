"""What an autoscaling policy wants for every model that is in use, at one moment.

Unlike demand alone, a policy looks at the clock and at the last minutes: it is asked anew at every decision, about the
models that have replicas, callers, or any load to speak of.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from packers.autoscale.context import Autoscaler, ScaleContext, next_start_s
from packers.load import DEFAULT_AIM, Aim, ScaleMemory
from packers.scaling import Roll, Standing, roll, stand
from packers.state import State
from packers.types import Model, ModelId, PoolKind


@dataclass(slots=True)
class Scaled:
    """``standings`` of the models asked about, by id; ``memories``: those that changed."""

    standings: dict[ModelId, Standing] = field(default_factory=dict)
    memories: list[tuple[ModelId, ScaleMemory]] = field(default_factory=list)

    @property
    def wanting(self) -> list[ModelId]:
        return [name for name, one in self.standings.items() if one.missing or one.switched_off]

    def due(self, now_s: float) -> list[ModelId]:
        return [name for name, one in self.standings.items() if one.due_s <= now_s]


def scaled(state: State, now_s: float, policy: Autoscaler) -> Scaled:
    found = Scaled()
    contended = bool(state.outlook.wanting)
    for name in sorted(state.outlook.active):
        model = state.models[name]
        mine = roll(name, state.index.of_model.get(name, {}).values())
        paid = _paid_by_the_second(mine, state)
        context = _context(model, mine, now_s, 1.0 if paid or contended else 0.0)
        scale = policy(context)
        found.standings[name] = stand(model, mine, scale.count, scale.why, scale.linger_s, not paid)
        if scale.memory != model.scale_memory:
            found.memories.append((name, scale.memory))
    return found


def _context(model: Model, mine: Roll, now_s: float, keep_price: float) -> ScaleContext:
    start_s = next_start_s(model.startup, len(mine.asleep))
    ready, starting = len(mine.ready) - mine.doubled, mine.starting
    aim = DEFAULT_AIM
    if (aim.slots, aim.start_s) != (model.target_in_flight, start_s):
        aim = Aim(max(1, model.target_in_flight), start_s)
    return ScaleContext(
        now_s, model, ready, starting, len(mine.asleep), start_s, model.scale_memory, aim=aim, keep_price=keep_price
    )


def _paid_by_the_second(mine: Roll, state: State) -> bool:
    """Some of its replicas are on GPUs that cost only while they are used."""
    if len(state.pools) == 0:
        return False
    pools = {state.gpus[one.gpu].pool for one in (*mine.ready, *mine.asleep)}
    return any(name in state.pools and state.pools[name].kind is not PoolKind.OWNED for name in pools)
