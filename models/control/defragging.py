"""Tidying up by hand: an operator's defragmentation, from its plan to its end.

1. A run is a number of moves. Each step plans them anew (``packers.defrag``) with what is left of that number, so that
   a world that changes meanwhile changes the plan; so many are under way at a time as the policies' budget allows.
2. A move starts the new replica first. Once that serves, the old one leaves the routes, finishes what it has and stops:
   no model ever has fewer replicas that serve than before.
3. A replica whose substitute could not be started stays where it is for the rest of the run.
4. Called off, nothing new begins. A substitute that does not serve yet ends as soon as it would, and the old one stays;
   where the old one is leaving already, the move is finished.
5. A run ends when its number is used up, or nothing that pays has been found for QUIET_S while none is under way.

The run is part of the fleet record: the next controller goes on with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from models.control.journal import Journal
from models.control.tracked import Tracked
from models.control.world import World
from models.store.records import Command, CommandReply, DefragRecord, MoveRecord
from packers.decide import Policies
from packers.defrag.moves import Budget
from packers.defrag.survey import Order, Survey, survey
from packers.explain import count
from packers.state import State
from packers.types import ModelId, Plan, ReplicaId, ReplicaState, Start

Drain = Callable[[Tracked, ReplicaState, str, float], None]
MOST_MOVES = 1000
QUIET_S = 2.0
STAYS_SHOWN = 100
VERBS = ("defrag", "defrag-abort")
UNDER_WAY = ("starting", "shifting")
CALLED_OFF = "the defragmentation was called off"


@dataclass(frozen=True, slots=True)
class _Asked:
    command: Command
    moves: int


class DefragDesk:
    """Owned by the loop. ``drain``: takes a replica out of the routes."""

    def __init__(self, world: World, journal: Journal, drain: Drain) -> None:
        self._world = world
        self._journal = journal
        self._drain = drain
        self._asked: list[_Asked] = []
        self._waiting: list[Command] = []  # for the run to end
        self._replies: list[CommandReply] = []
        self._quiet_since_s: float | None = None

    # -- orders --------------------------------------------------------------------------------------------------

    def take(self, command: Command, now: float) -> None:
        if command.verb == "defrag-abort":
            return self._abort(command, now)
        moves = MOST_MOVES if command.moves is None else command.moves
        if not 1 <= moves <= MOST_MOVES:
            text = f"moves has to be 1 to {MOST_MOVES}, got {moves}"
            return self._answer(command, False, text, code="invalid_request")
        self._asked.append(_Asked(command, moves))

    def due(self) -> list[CommandReply]:
        """Replies that can be given now."""
        replies, self._replies = self._replies, []
        return replies

    def _abort(self, command: Command, now: float) -> None:
        run = self._running
        if run is None:
            return self._answer(command, False, "no defragmentation is going on", code="no_defrag")
        going = [move for move in run.moves if move.state in UNDER_WAY]
        if not command.dry_run:
            self._put(run, state="aborting" if going else "aborted", ended_unix_s=None if going else now)
            self._journal.note_text("defrag", None, f"called off after {_done(run)}")
            if not going:
                self._tell_waiting()
        said = f"{count(len(going), 'move')} under way: each is undone, or finished where it is almost done"
        self._answer(command, True, f"{CALLED_OFF}; {said if going else 'nothing was under way'}", {"run": self._shown})

    # -- each step -----------------------------------------------------------------------------------------------

    def policies(self, policies: Policies) -> Policies:
        """Those for this step: while a run has moves left, it is the one that moves."""
        run = self._running
        if run is None or run.state != "running" or self._left(run) <= 0:
            return policies
        stay = tuple(ReplicaId(move.replica_id) for move in run.moves if move.state == "failed")
        moves = self._left(run) + len(self._substitutes())
        return replace(policies, defrag="ours", defrag_budget=_budget(policies, moves, stay, run.at_once))

    def follow(self, now: float) -> bool:
        """What has become of the moves; to be called before anything is decided. True when something has."""
        run = self._running
        if run is None:
            return False
        moves = tuple(self._look(move, run, now) if move.state in UNDER_WAY else move for move in run.moves)
        if moves == run.moves:
            return False
        self._put(run, moves=moves)
        return True

    def began(self, action: Start, replica: ReplicaId, now: float) -> None:
        """A start has been entered; of those that move something the run keeps book."""
        run = self._running
        if run is None or run.state != "running" or action.replaces is None or not action.gain_gpus:
            return
        old, new = self._world.replicas.get(action.replaces), self._world.replicas[replica]
        move = MoveRecord(
            replica_id=action.replaces,
            model_id=action.model,
            substitute=replica,
            source=old.gpu if old is not None else "",
            target=action.gpu,
            state="starting",
            moved_bytes=action.footprint.weights_bytes,
            gain_gpus=round(action.gain_gpus, 4),
            cost_gpu_s=round(action.cost_gpu_s, 4),
            began_unix_s=now,
            decision=new.decision,
        )
        self._put(run, moves=(*run.moves, move))

    def decided(self, state: State, plan: Plan, policies: Policies, now: float) -> bool:
        """Answer what was asked, from what was decided on; begin and end runs. True when something has changed."""
        asked, self._asked = self._asked, []
        for one in asked:
            self._plan(one, state, plan, policies, now)
        return self._may_end(plan, now) or bool(asked)

    # -- beginning and ending --------------------------------------------------------------------------------------

    def _plan(self, asked: _Asked, state: State, plan: Plan, policies: Policies, now: float) -> None:
        command, run = asked.command, self._running
        touched = {action.replica for action in plan.actions if hasattr(action, "replica")}
        at_once = max(1, policies.defrag_budget.moves)
        found = survey(state, now, _budget(policies, asked.moves, (), None), touched)
        detail = {**_document(found), "at_once": at_once, "run": self._shown}
        price = f"{found.gain_gpus:.2f} GPU gained for {found.cost_gpu_s:.1f} GPU-seconds"
        said = f"{count(len(found.moves), 'move')}: {price}"
        if run is not None and not command.dry_run:
            text = f"one is going on: {_done(run)}; roundhouse defrag --abort calls it off"
            return self._answer(command, False, text, code="busy")
        if command.dry_run or not found.moves:
            return self._answer(command, True, said if found.moves else "nothing that can be moved pays", detail)
        self._world.defrag = DefragRecord(
            id=uuid.uuid4().hex[:12],
            state="running",
            began_unix_s=now,
            wanted=asked.moves,
            at_once=at_once,
            planned=len(found.moves),
            gain_gpus=round(found.gain_gpus, 4),
            empty_gpus_before=found.before.empty_gpus,
            largest_free_bytes_before=found.before.largest_free_bytes,
        )
        self._quiet_since_s = None
        self._journal.note_text("defrag", None, f"an operator asked for it: {said}", **_document(found, stays=0))
        if command.wait:
            self._waiting.append(command)
        else:
            self._answer(command, True, f"begun, {said}", {**detail, "run": self._shown})

    def _may_end(self, plan: Plan, now: float) -> bool:
        run = self._running
        if run is None:
            return False
        going = any(move.state in UNDER_WAY for move in run.moves)
        if going or any(isinstance(action, Start) and action.gain_gpus for action in plan.actions):
            self._quiet_since_s = None
            return False
        if self._quiet_since_s is None or self._quiet_since_s > now:
            self._quiet_since_s = now
        if run.state == "running" and self._left(run) > 0 and now - self._quiet_since_s < QUIET_S:
            return False
        self._put(run, state="aborted" if run.state == "aborting" else "done", ended_unix_s=now)
        self._journal.note_text("defrag", None, f"it is over: {_done(run)} in {now - run.began_unix_s:.1f} s")
        self._tell_waiting()
        return True

    def _tell_waiting(self) -> None:
        waiting, self._waiting, run = self._waiting, [], self._world.defrag
        for command in waiting:
            if run is not None:
                ok = run.state == "done"
                text = _done(run) if ok else f"{CALLED_OFF} after {_done(run)}"
                self._answer(command, ok, text, {"run": self._shown}, code=None if ok else "aborted")

    # -- one move --------------------------------------------------------------------------------------------------

    def _look(self, move: MoveRecord, run: DefragRecord, now: float) -> MoveRecord:
        new = self._world.replicas.get(ReplicaId(move.substitute))
        old = self._world.replicas.get(ReplicaId(move.replica_id))
        over = {"took_s": round(now - move.began_unix_s, 4)}
        if new is None:
            failure = self._world.failures.get(ModelId(move.model_id))
            why = failure.message if failure is not None else "its substitute is gone"
            return msgspec.structs.replace(move, state="failed", reason=why, **over)
        if new.state is ReplicaState.STARTING:
            return move
        if old is None:
            return msgspec.structs.replace(move, state="done", **over)
        if run.state == "aborting" and old.state is ReplicaState.READY:
            # 4.
            self._drain(new, ReplicaState.DEAD, CALLED_OFF, now)
            return msgspec.structs.replace(move, state="called off", reason=CALLED_OFF, **over)
        return msgspec.structs.replace(move, state="shifting")

    def _substitutes(self) -> list[Tracked]:
        """Of replicas that are still there, whoever has started them."""
        there = self._world.replicas
        return [tracked for tracked in there.values() if tracked.replaces is not None and tracked.replaces in there]

    # -- the run ---------------------------------------------------------------------------------------------------

    @property
    def _running(self) -> DefragRecord | None:
        run = self._world.defrag
        return run if run is not None and run.state in ("running", "aborting") else None

    @property
    def _shown(self) -> dict[str, Any] | None:
        return msgspec.to_builtins(self._world.defrag) if self._world.defrag is not None else None

    def _left(self, run: DefragRecord) -> int:
        return run.wanted - sum(move.state != "failed" for move in run.moves)

    def _put(self, run: DefragRecord, **changes: Any) -> None:
        self._world.defrag = msgspec.structs.replace(run, **changes)

    def _answer(
        self,
        command: Command,
        ok: bool,
        message: str,
        detail: dict[str, Any] | None = None,
        *,
        code: str | None = None,
    ) -> None:
        moved = [move.replica_id for move in self._world.defrag.moves] if self._world.defrag is not None else []
        self._replies.append(
            CommandReply(id=command.id, ok=ok, message=message, code=code, actions=moved, detail=detail or {})
        )


def _budget(policies: Policies, moves: int, stay: tuple[ReplicaId, ...], at_once: int | None) -> Budget:
    """An operator does not wait for replicas to settle, nor for them to be idle; each move still has to pay."""
    return replace(policies.defrag_budget, moves=moves, settle_s=0.0, busy=True, stay=stay, at_once=at_once)


def _done(run: DefragRecord) -> str:
    """``2 of 3 moves done, 1 failed``."""
    done = sum(move.state == "done" for move in run.moves)
    told = f"{done} of {count(min(run.planned, run.wanted), 'move')} done"
    for state in ("failed", "called off", "starting", "shifting"):
        number = sum(move.state == state for move in run.moves)
        told += f", {number} {state}" if number else ""
    return told


def _document(found: Survey, stays: int = STAYS_SHOWN) -> dict[str, Any]:
    """What is planned, in JSON's own types."""
    document: dict[str, Any] = {
        "moves": [
            {
                "replica_id": move.replica,
                "model_id": move.model,
                "source": move.source[0],
                "target": move.target[0],
                "moved_bytes": move.moved_bytes,
                "start_s": move.start_s,
                "unavailable_s": move.unavailable_s,
                "gain_gpus": round(move.gain_gpus, 4),
                "cost_gpu_s": round(move.cost_gpu_s, 4),
                "after": list(move.after),
                "reason": move.reason,
            }
            for move in found.moves
        ],
        "gain_gpus": round(found.gain_gpus, 4),
        "cost_gpu_s": round(found.cost_gpu_s, 4),
        "moved_bytes": found.moved_bytes,
        "before": _order(found.before),
        "after": _order(found.after),
    }
    if stays:
        document["stays"] = [{"replica_id": stay.replica, "why": stay.why} for stay in found.stays[:stays]]
        document["stays_left_out"] = max(0, len(found.stays) - stays)
    return document


def _order(order: Order) -> dict[str, int]:
    return {
        "gpus": order.gpus,
        "empty_gpus": order.empty_gpus,
        "free_bytes": order.free_bytes,
        "largest_free_bytes": order.largest_free_bytes,
    }
