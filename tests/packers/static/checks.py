"""What must hold of every answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from packers.static.answer import Spot
from packers.static.lines.line import Line, Pattern
from packers.static.problem import GpuSize, Item
from packers.types import ModelId


def check_patterns(line: Line, patterns: Iterable[Pattern]) -> None:
    """Each fits into a bin, and together they hold exactly what there is."""
    held: Counter[int] = Counter()
    for pattern in patterns:
        assert pattern
        assert line.fits(pattern)
        held.update(dict(pattern))
    assert [held[index] for index in range(len(line.counts))] == line.counts.tolist()


def check_spots(items: Sequence[Item], nodes: Sequence[Sequence[GpuSize]], spots: Sequence[Spot]) -> None:
    """No GPU over its capacity, groups on GPUs of one node, models that keep apart on different ones."""
    by_model = {item.model: item for item in items}
    used: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    models: defaultdict[int, list[ModelId]] = defaultdict(list)
    for spot in spots:
        item = by_model[spot.model]
        assert len(set(spot.gpus)) == len(spot.gpus) == item.gpus
        models[spot.node].append(spot.model)
        for gpu in spot.gpus:
            used[spot.node, gpu][0] += item.memory_bytes
            used[spot.node, gpu][1] += item.compute_milli
    for (node, gpu), (memory_bytes, compute_milli) in used.items():
        assert memory_bytes <= nodes[node][gpu].memory_bytes
        assert compute_milli <= nodes[node][gpu].compute_milli
    for here in models.values():
        for model in here:
            apart = by_model[model].apart_from
            assert not apart & (set(here) - {model})
            assert model not in apart or here.count(model) == 1
    assert len({(spot.model, spot.replica) for spot in spots}) == len(spots)


def check_all_placed(items: Sequence[Item], spots: Sequence[Spot]) -> None:
    placed = Counter(spot.model for spot in spots)
    assert placed == {item.model: item.replicas for item in items if item.replicas}
