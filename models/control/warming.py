"""Keeps models warm for a while: operators' orders and the hours in cards become floors (``models.control.floors``).

1. An order holds until its time is over, it is called off, or its model leaves the catalog. It outlives the controller.
2. A span of a schedule begins early, by what starting what is missing takes, so that all are there on time; once begun
   it stays.
3. The highest of a model's orders and spans is its floor, bounded by ``max_replicas``. Others can still be in the way:
   what could not be kept is said, in a decision and in what is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from models.catalog.schedule import Span, spans
from models.control.catalog import Entry
from models.control.floors import Floor, Order, moment
from models.control.journal import Journal
from models.control.tracked import Tracked
from models.control.world import World
from models.store.records import Command, CommandReply, WarmRecord
from packers.explain import count, span
from packers.types import Hold, ModelId, Plan, Refuse, ReplicaState

LOOK_EVERY_S = 0.5
AHEAD_S = 8 * 86_400.0  # a week's next time is always in it
SPANS_EVERY_S = 3_600.0
LEAD_FACTOR, LEAD_MARGIN_S = 1.5, 1.0  # starts take longer when the machine is busy
SHORT_AFTER_S = 5.0  # what is waited for so long is in the way
CLOCK_GRACE_S = 3_600.0  # an order is kept so long after its end: a clock that was set forward may be set back


@dataclass(slots=True)
class _Watch:
    """Of a floor in force."""

    floor: Floor
    began_s: float
    met: bool = False
    short_since_s: float | None = None
    reason: str = ""
    said: str = ""


@dataclass(slots=True)
class _Schedules:
    """``of``: the catalog that ``spans`` were worked out from, at ``at_s``. ``begun``: those that were begun early."""

    of: Mapping[ModelId, Entry] | None = None
    at_s: float = 0.0
    spans: dict[ModelId, tuple[Span, ...]] = field(default_factory=dict)
    begun: set[tuple[ModelId, Span]] = field(default_factory=set)


class WarmDesk:
    """Answers each command once: when it is accepted, or when all are ready if the caller waits."""

    def __init__(self, world: World, journal: Journal, wall: Callable[[], float]) -> None:
        """``wall``: Unix time as people have it, by which orders and schedules go."""
        self._wall = wall
        self._world = world
        self._journal = journal
        self._schedules = _Schedules()
        self._watches: dict[ModelId, _Watch] = {}
        self._waiting: list[tuple[Command, ModelId, float]] = []
        self._replies: list[CommandReply] = []
        self._look_s = float("-inf")

    # -- orders --------------------------------------------------------------------------------------------------

    def take(self, command: Command, now: float) -> None:
        entry = self._find(command)
        if entry is None:
            return
        if command.replicas is None or command.replicas < 0:
            return self._answer(command, False, "replicas is missing: how many are to be kept?", "invalid_request")
        if command.replicas == 0:
            return self._call_off(command, entry)
        until_s, at_s = command.until_unix_s, self._wall()
        if until_s is not None and not until_s > at_s:
            text = f"{moment(until_s)} is over; name a time that is to come"
            return self._answer(command, False, text, "invalid_request")
        kept = min(command.replicas, entry.card.max_replicas)
        verb = "would be" if command.dry_run else "is" if kept == 1 else "are"
        text = f"{count(kept, 'replica')} of {entry.id} {verb} kept warm"
        text += f" until {moment(until_s)}" if until_s is not None else " until that is called off"
        if kept < command.replicas:
            text += f"; {command.replicas} were asked for, its max_replicas is {kept}"
        if not command.dry_run:
            self._world.floors.orders[entry.id] = Order(command.replicas, at_s, until_s)
            self._look_s = float("-inf")
        if command.wait and not command.dry_run:
            self._waiting.append((command, entry.id, now))
        else:
            self._answer(command, True, text, replicas=kept, asked=command.replicas, until_unix_s=until_s)

    def _call_off(self, command: Command, entry: Entry) -> None:
        model, orders, now = entry.id, self._world.floors.orders, self._wall()
        begun = [each for each in self._schedules.spans.get(model, ()) if self._begins(entry, each, now)]
        still = f"its schedule keeps it so, {begun[0].hours.text}: change that in its card" if begun else ""
        if model not in orders:
            text = f"no order keeps {model} warm" + (f"; {still}" if still else "")
            return self._answer(command, not still, text, "scheduled" if still else None, replicas=0)
        if not command.dry_run:
            del orders[model]
            self._look_s = float("-inf")
        verb = "would not be" if command.dry_run else "is not"
        self._answer(
            command, True, f"{model} {verb} kept warm any longer" + (f"; but {still}" if still else ""), replicas=0
        )

    def due(self) -> list[CommandReply]:
        """Replies that can be given now."""
        self._waiting = [each for each in self._waiting if not self._settled(*each)]
        replies, self._replies = self._replies, []
        return replies

    def _settled(self, command: Command, model: ModelId, since_s: float) -> bool:
        watch, failure = self._watches.get(model), self._world.failures.get(model)
        if watch is None:
            if self._look_s == float("-inf"):
                return False  # it comes into force with the next step
            self._answer(command, False, f"{model} is not kept warm any longer: it was called off", "called_off")
            return True
        ready = self._ready(model)
        if len(ready) >= watch.floor.replicas:
            text = f"{count(len(ready), 'replica')} of {model} {'is' if len(ready) == 1 else 'are'} ready"
            self._answer(command, True, text, actions=[each.id for each in ready])
            return True
        if failure is not None and failure.at_unix_s >= since_s:
            self._answer(command, False, f"{failure.message}; the order stays", failure.code)
            return True
        return False

    def _find(self, command: Command) -> Entry | None:
        for model, entry in self._world.entries.items():
            if command.model_id == model or command.model_id in entry.card.aliases:
                return entry
        self._answer(command, False, f"there is no model {command.model_id!r} in the catalog", "model_not_found")
        return None

    def _answer(
        self, command: Command, ok: bool, message: str, code: str | None = None, actions: list[str] | None = None,
        **detail: object,
    ) -> None:  # fmt: skip
        reply = CommandReply(id=command.id, ok=ok, message=message, code=code, actions=actions or [], detail=detail)
        self._replies.append(reply)

    # -- floors --------------------------------------------------------------------------------------------------

    def settle(self) -> bool:
        """Before each decision: which floors are in force. True when that has changed."""
        now = self._wall()
        self._read_schedules(now)
        if 0 <= now - self._look_s < LOOK_EVERY_S:
            return False
        self._look_s = now
        self._expire(now)
        before, after = self._world.floors.floors, self._floors(now)
        self._world.floors.floors = after
        for model in before.keys() | after.keys():
            if before.get(model) != after.get(model):
                self._change(model, after.get(model), now)
        self._world.floors.records = self._records(now)
        return before != after

    def decided(self, plan: Plan) -> None:
        """What the plan could not do for them."""
        if not self._watches:
            return
        now = self._wall()
        held = {action.model: action.reason for action in plan.actions if isinstance(action, Hold | Refuse)}
        for model, watch in self._watches.items():
            self._judge(model, watch, held.get(model, ""), now)

    def _read_schedules(self, now: float) -> None:
        known = self._schedules
        if known.of is self._world.entries and 0 <= now - known.at_s < SPANS_EVERY_S:
            return
        found = {
            model: spans(entry.card.schedule, now, AHEAD_S)
            for model, entry in self._world.entries.items()
            if entry.card.schedule
        }
        begun = {(model, each) for model, each in known.begun if each in found.get(model, ())}
        self._schedules = _Schedules(self._world.entries, now, found, begun)
        self._look_s = float("-inf")

    def _expire(self, now: float) -> None:
        orders = self._world.floors.orders
        for model, order in list(orders.items()):
            if model not in self._world.entries or order.ended(now - CLOCK_GRACE_S):
                del orders[model]

    def _floors(self, now: float) -> dict[ModelId, Floor]:
        orders, entries, found = self._world.floors.orders, self._world.entries, {}
        for model in sorted(orders.keys() | self._schedules.spans.keys()):
            entry = entries[model]
            most = entry.card.max_replicas
            order = orders.get(model)
            mine = [_of_order(order, most)] if order is not None and not order.ended(now) else []
            begun = (each for each in self._schedules.spans.get(model, ()) if self._begins(entry, each, now))
            mine += [_of_span(each, most) for each in begun]
            if mine:
                found[model] = max(mine, key=lambda floor: floor.replicas)
        return found

    def _begins(self, entry: Entry, each: Span, now: float) -> bool:
        # 2.
        if not each.begin_s - AHEAD_S <= now < each.end_s:
            return False
        key = (entry.id, each)
        if key not in self._schedules.begun and now >= each.begin_s - self._lead_s(entry, each.hours.replicas):
            self._schedules.begun.add(key)
        return key in self._schedules.begun

    def _lead_s(self, entry: Entry, replicas: int) -> float:
        """What bringing up those that are missing takes, one after another at worst."""
        states = [tracked.state for tracked in self._world.of_model(entry.id)]
        coming = sum(state in (ReplicaState.READY, ReplicaState.STARTING) for state in states)
        missing = max(0, replicas - coming)
        wakes = min(missing, states.count(ReplicaState.ASLEEP))
        startup = self._world.history.startup(entry.id, self._world.weights_tier(entry.id) or "disk")
        return LEAD_FACTOR * (wakes * startup.host_s + (missing - wakes) * startup.disk_s) + LEAD_MARGIN_S

    def _change(self, model: ModelId, floor: Floor | None, now: float) -> None:
        self._world.census.touch(model)
        if floor is None:
            del self._watches[model]
            self._journal.note_text("warm_over", model, f"{model} is not kept warm any longer")
            return
        self._watches[model] = _Watch(floor, now)
        early_s = floor.since_s - now
        early = f"; brought up {span(early_s)} early, as starting takes a while" if early_s > 0 else ""
        self._journal.note_text("warm", model, f"{count(floor.replicas, 'replica')} of {model}: {floor.why}{early}")

    def _judge(self, model: ModelId, watch: _Watch, held: str, now: float) -> None:
        ready, wanted = len(self._ready(model)), watch.floor.replicas
        if ready >= wanted:
            if not watch.met:
                off_s = now - watch.floor.since_s
                if off_s > 0:  # a schedule may have come into the card after its hours had begun
                    off_s = min(off_s, now - watch.began_s)
                when = f"{span(off_s)} after" if off_s >= 0 else f"{span(-off_s)} before"
                text = f"{ready} of {count(wanted, 'replica')} of {model} ready, {when} they were to be there"
                self._journal.note_text("warmed", model, text)
            watch.met, watch.short_since_s, watch.reason, watch.said = True, None, "", ""
            return
        failure = self._world.failures.get(model)
        reason = failure.message if failure is not None else held
        if not reason:  # on their way
            return
        watch.reason = reason
        watch.short_since_s = now if watch.short_since_s is None else watch.short_since_s
        if now - watch.short_since_s >= SHORT_AFTER_S and watch.said != reason:
            watch.said = reason
            self._journal.note_text("warm_short", model, f"{ready} of {count(wanted, 'replica')} of {model}: {reason}")

    def _ready(self, model: ModelId) -> list[Tracked]:
        return [each for each in self._world.of_model(model) if each.state is ReplicaState.READY]

    # -- what is shown -------------------------------------------------------------------------------------------

    def _records(self, now: float) -> tuple[WarmRecord, ...]:
        found = []
        for model in sorted(self._world.floors.orders.keys() | self._schedules.spans.keys()):
            order = self._world.floors.orders.get(model)
            if order is not None and not order.ended(now):
                found.append(self._record(model, "operator", order.replicas, order.since_s, order.until_s, True, now))
            found += self._of_schedule(model, now)
        return tuple(found)

    def _of_schedule(self, model: ModelId, now: float) -> list[WarmRecord]:
        """Of each of its hours the span that goes on or comes next."""
        entry, seen, found = self._world.entries[model], set(), []
        for each in self._schedules.spans.get(model, ()):
            if each.end_s > now and each.hours not in seen:
                seen.add(each.hours)
                begun, asked = self._begins(entry, each, now), each.hours.replicas
                found.append(self._record(model, "schedule", asked, each.begin_s, each.end_s, begun, now))
        return found

    def _record(
        self, model: ModelId, by: str, asked: int, from_s: float, until_s: float | None, begun: bool, now: float
    ) -> WarmRecord:
        kept, ready = min(asked, self._world.entries[model].card.max_replicas), len(self._ready(model))
        watch = self._watches.get(model)
        state, reason = "planned", ""
        if begun and watch is not None:
            since_s = watch.short_since_s
            short = since_s is not None and now - since_s >= SHORT_AFTER_S
            state = "warm" if ready >= kept else "short" if short else "coming"
            reason = watch.reason if ready < kept else ""
        return WarmRecord(
            model_id=model,
            by=by,
            asked=asked,
            replicas=kept,
            from_unix_s=from_s,
            until_unix_s=until_s,
            state=state,
            ready=ready,
            reason=reason,
        )


def _of_order(order: Order, most: int) -> Floor:
    until = f" until {moment(order.until_s)}" if order.until_s is not None else ""
    kept = min(order.replicas, most)
    return Floor(kept, f"an operator keeps {kept} warm{until}", order.since_s)


def _of_span(each: Span, most: int) -> Floor:
    kept = min(each.hours.replicas, most)
    return Floor(kept, f"its schedule keeps {kept} warm, {each.hours.text}", each.begin_s)
