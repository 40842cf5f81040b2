"""Operators' orders: wake, sleep and stop a model, drain a GPU. Taken and answered by the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.catalog.units import format_bytes
from models.control.journal import Journal
from models.control.recorder import Recorder
from models.control.tracked import Tracked
from models.control.world import World
from models.store.records import Command, CommandReply
from packers.types import GpuId, ModelId, ReplicaId, ReplicaState

Drain = Callable[[Tracked, ReplicaState, str, float], None]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """``model`` is None for a GPU that is being drained."""

    command: Command
    model: ModelId | None
    since_s: float
    replicas: tuple[ReplicaId, ...]
    gpu: GpuId | None = None


class CommandDesk:
    """Answers each command once: when it is accepted, or when it is done if the caller waits."""

    def __init__(self, world: World, drain: Drain, recorder: Recorder, journal: Journal) -> None:
        self._world = world
        self._journal = journal
        self._drain = drain
        self._recorder = recorder
        self._waiting: list[_Waiting] = []
        self._replies: list[CommandReply] = []

    def take(self, command: Command, now: float) -> None:
        if command.verb in ("drain", "undrain"):
            return self._cordon(command)
        if command.verb == "record":
            self._recorder.want(now, command.for_s)
            what = f"recording for {command.for_s:g} s" if command.for_s > 0 else "the recording has ended"
            return self._answer(command, True, what)
        model = self._find(command)
        if model is None:
            return
        if command.verb == "wake" and command.dry_run:
            here = any(tracked.state is ReplicaState.READY for tracked in self._world.of_model(model))
            self._answer(command, True, f"{model} is ready already" if here else f"{model} would be brought onto a GPU")
        elif command.verb == "wake":
            self._begin_anew(model)
            if not any(tracked.state is ReplicaState.READY for tracked in self._world.of_model(model)):
                self._world.operator_wakes[model] = now  # until it is ready: one that is would be kept for ever
            self._accept(command, model, now, ())
        elif command.verb in ("sleep", "stop"):
            self._put_down(command, model, now)
        else:
            self._answer(
                command,
                False,
                f"unknown command {command.verb!r}; use wake, sleep, stop, drain, undrain or record",
                "unknown_command",
            )

    def due(self) -> list[CommandReply]:
        """Replies that can be given now."""
        still: list[_Waiting] = []
        for waiting in self._waiting:
            if not self._settled(waiting):
                still.append(waiting)
        self._waiting = still
        replies, self._replies = self._replies, []
        return replies

    def _find(self, command: Command) -> ModelId | None:
        for model, entry in self._world.entries.items():
            if command.model_id == model or command.model_id in entry.card.aliases:
                return model
        self._answer(command, False, f"there is no model {command.model_id!r} in the catalog", "model_not_found")
        return None

    def _begin_anew(self, model: ModelId) -> None:
        """Whatever has kept it from starting: an operator says that it may be tried, and measured, again."""
        failure, entry = self._world.failures.get(model), self._world.entries[model]
        if failure is not None and failure.code == "insufficient_gpu_memory":
            self._world.history.footprints.forget(self._world.revision(entry))
        self._world.failures.forget(model)

    def _put_down(self, command: Command, model: ModelId, now: float) -> None:
        card = self._world.entries[model].card
        to_sleep = command.verb == "sleep"
        states = (ReplicaState.READY,) if to_sleep else (ReplicaState.READY, ReplicaState.ASLEEP)
        chosen = [tracked for tracked in self._world.of_model(model) if tracked.state in states]
        if card.min_replicas > 0:
            text = (
                f"{model} has min_replicas {card.min_replicas}: it would be started again; lower it in its card first"
            )
            return self._answer(command, False, text, "min_replicas")
        if model in self._world.floors.floors:
            text = f"{model} is kept warm ({self._world.floors.floors[model].why}): it would be started again"
            return self._answer(command, False, f"{text}; end that first: roundhouse warm {model} --off", "kept_warm")
        if to_sleep and not card.can_sleep:
            return self._answer(
                command, False, f"{model} has can_sleep: false in its card; stop it instead", "cannot_sleep"
            )
        if any(tracked.state is ReplicaState.STARTING for tracked in self._world.of_model(model)):
            return self._answer(command, False, f"{model} is starting; try again when it is ready", "busy")
        if to_sleep:
            for node in {tracked.node for tracked in chosen}:
                free = self._world.ledger.free_host(node)
                needed = sum(tracked.footprint.host_bytes for tracked in chosen if tracked.node == node)
                if needed > free:
                    needs = format_bytes(needed)
                    text = f"{model} needs {needs} of host RAM to sleep, {format_bytes(free)} are free; stop it instead"
                    return self._answer(command, False, text, "insufficient_host_memory")
        if command.dry_run:
            does = "put to sleep" if to_sleep else "stopped"
            what = f"{len(chosen)} replica{'s' * (len(chosen) != 1)} of {model} would be {does}"
            text = what if chosen else f"{model} has nothing that could be {does}"
            return self._answer(command, True, text, actions=tuple(tracked.id for tracked in chosen))
        self._world.history.calm(model)
        for tracked in chosen:
            to = ReplicaState.ASLEEP if to_sleep else ReplicaState.DEAD
            self._drain(tracked, to, f"{command.verb} by operator", now)
        self._accept(command, model, now, tuple(tracked.id for tracked in chosen))

    def _cordon(self, command: Command) -> None:
        """The packer sees to the rest: nothing new goes to a cordoned GPU, and what is there leaves."""
        gpu = GpuId(command.gpu or "")
        known = [each.id for each in self._world.gpus]
        if gpu not in known:
            text = f"there is no GPU {gpu!r}; these are there: {', '.join(sorted(known)) or 'none'}"
            return self._answer(command, False, text, "gpu_not_found")
        here = sorted(self._on(gpu))
        self._journal.note_text("gpu_ordered", None, f"{gpu}: {command.verb} by operator", gpu=gpu, verb=command.verb)
        if command.verb == "undrain":
            self._world.cordoned.discard(gpu)
            return self._answer(command, True, f"{gpu} takes replicas again", actions=here)
        self._world.cordoned.add(gpu)
        if command.wait:
            self._waiting.append(_Waiting(command, None, 0.0, tuple(here), gpu))
        else:
            what = f"{len(here)} replica{'s' * (len(here) != 1)} to leave it" if here else "nothing is on it"
            self._answer(command, True, f"{gpu} takes no new replicas; {what}", actions=here)

    def _on(self, gpu: GpuId) -> list[ReplicaId]:
        """Whoever holds memory of it."""
        return [entry.replica for entry in self._world.ledger.entries() if entry.gpu == gpu and entry.gpu_bytes]

    def _accept(self, command: Command, model: ModelId, now: float, replicas: tuple[ReplicaId, ...]) -> None:
        if command.wait:
            self._waiting.append(_Waiting(command, model, now, replicas))
        else:
            self._answer(command, True, f"{command.verb} of {model} accepted", actions=list(replicas))

    def _settled(self, waiting: _Waiting) -> bool:
        command, model = waiting.command, waiting.model
        if model is None:
            return self._is_empty(waiting)
        mine = self._world.of_model(model)
        if command.verb == "wake":
            ready = [tracked.id for tracked in mine if tracked.state is ReplicaState.READY]
            failure = self._world.failures.told(model)
            if ready:
                self._answer(command, True, f"{model} is ready", actions=list(ready))
            elif failure is not None and failure.at_unix_s >= waiting.since_s:
                self._answer(command, False, failure.message, failure.code)
            elif model not in self._world.entries:
                self._answer(command, False, f"{model} was removed from the catalog meanwhile", "model_not_found")
            else:
                return False
            return True
        if any(t.id in waiting.replicas and t.state is ReplicaState.DRAINING for t in mine):
            return False
        word = "asleep" if command.verb == "sleep" else "stopped"
        what = f"{model} is {word}" if waiting.replicas else f"{model} had nothing to {command.verb}"
        self._answer(command, True, what, actions=list(waiting.replicas))
        return True

    def _is_empty(self, waiting: _Waiting) -> bool:
        if waiting.gpu is None or waiting.gpu not in self._world.cordoned:
            self._answer(
                waiting.command, False, f"{waiting.gpu} takes replicas again: undrained meanwhile", "undrained"
            )
            return True
        if self._on(waiting.gpu):
            return False
        self._answer(waiting.command, True, f"{waiting.gpu} is empty", actions=list(waiting.replicas))
        return True

    def _answer(
        self, command: Command, ok: bool, message: str, code: str | None = None, actions: Sequence[str] = ()
    ) -> None:
        self._replies.append(CommandReply(id=command.id, ok=ok, message=message, code=code, actions=list(actions)))
