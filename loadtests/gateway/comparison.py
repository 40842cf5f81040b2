"""Roundhouse and its peers, one after the other on the same core, several passes; each pass begins with no gateway."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loadtests.gateway import ours
from loadtests.gateway.bench import Bench
from loadtests.gateway.passes import Measure, Pass, Passing
from loadtests.gateway.problems import CannotMeasure
from loadtests.gateway.scene import Subject, started

DIRECT = "direct"
DISTURBED_SHARE = 0.05
Say = Callable[[str], None]


@dataclass(slots=True)
class Compared:
    """Passes of each subject in their order; ``missing``: why a subject has none, or not all."""

    passes: dict[str, list[Pass]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def troubles(self) -> list[str]:
        return [
            f"{name}, pass {number}: {trouble}"
            for name, passes in self.passes.items()
            for number, each in enumerate(passes, 1)
            for trouble in each.troubles
        ]

    @property
    def disturbed(self) -> list[str]:
        """Passes that did not have their core to themselves."""
        return [
            f"{name}, pass {number}: others took {share:.0%} of its core meanwhile"
            for name, passes in self.passes.items()
            for number, each in enumerate(passes, 1)
            if (share := each.figures.get(Measure.OTHERS, 0.0)) > DISTURBED_SHARE
        ]


def compare(bench: Bench, subjects: Sequence[Subject], passes: int, say: Say) -> Compared:
    """A subject that fails is left out from then on. Raises CannotMeasure when nothing can be measured at all."""
    compared = Compared()
    scene = bench.scene()
    present = []
    for subject in subjects:
        if why := subject.missing(scene):
            compared.missing[subject.name] = why
        else:
            present.append(subject)
    for number in range(passes):
        say(f"pass {number + 1} of {passes}: direct")
        compared.passes.setdefault(DIRECT, []).append(Passing(bench, bench.engine_ports[0], None).measure())
        # Another one goes first each time, so that no one always has the machine as the one before left it.
        turn = number % len(present) if present else 0
        for subject in present[turn:] + present[:turn]:
            if subject.name in compared.missing:
                continue
            say(f"pass {number + 1} of {passes}: {subject.name}")
            try:
                compared.passes.setdefault(subject.name, []).append(one_pass(bench, subject))
            except CannotMeasure as problem:
                compared.missing[subject.name] = str(problem)
    compared.passes = {name: found for name, found in compared.passes.items() if found}
    return compared


def one_pass(bench: Bench, subject: Subject) -> Pass:
    """Raises CannotMeasure."""
    with started(subject, bench.scene()) as running:
        mine, whole = subject.name in (ours.NAME, ours.ALONE), subject.name == ours.NAME
        if mine:
            ours.check_everything_is_on(running, bench.key, whole=whole)
        found = Passing(bench, running.port, running.usage, subject.hidden_engine).measure()
        if mine:
            ours.check_all_were_counted(running, found.answered, whole=whole)
    found.figures[Measure.READY_S] = running.ready_s
    return found
