"""Why nodes were not chosen, in words and numbers."""

from __future__ import annotations

from collections import Counter

import numpy as np

from packers.explain import count, size
from packers.placement.ask import Ask, NoSpot
from packers.placement.cluster import Bools, Cluster, Floats, Ints
from packers.placement.rule import feasible
from packers.types import Candidate

CANDIDATES_SHOWN = 16  # kept with a decision: enough to see why, small enough to store for every one


def shown(
    cluster: Cluster, ask: Ask, scale: float, score: Floats, column: Ints, allowed: Bools | None
) -> tuple[Candidate, ...]:
    """The best nodes by score, then rejected ones with the most room, each by the GPU that was or would be taken."""
    best = [int(row) for row in np.argsort(score, kind="stable")[:CANDIDATES_SHOWN] if score[row] < np.inf]
    found = []
    for row in best:
        place = int(column[row]) if ask.gpus == 1 else 0
        if cluster.gpus_of[row]:
            found.append(
                Candidate(cluster.gpu_at(row, place).id, int(cluster.free_bytes[row, place]), float(score[row]))
            )
    return tuple(found) + _rejected(cluster, ask, scale, score == np.inf, allowed, CANDIDATES_SHOWN - len(found))


def no_spot(cluster: Cluster, ask: Ask, scale: float, allowed: Bools | None, explain: bool) -> NoSpot:
    """Nothing has room: what rules out how many nodes, and whether an empty cluster would do."""
    rejections: tuple[tuple[str, int], ...] = ()
    candidates: tuple[Candidate, ...] = ()
    if explain:
        why = Counter(_reasons(cluster, ask, allowed))
        rejections = tuple(sorted(why.items(), key=lambda item: (-item[1], item[0])))
        everywhere: Bools = np.ones(len(cluster), np.bool_)
        candidates = _rejected(cluster, ask, scale, everywhere, allowed, CANDIDATES_SHOWN)
    wants = f"{count(ask.gpus, 'GPU')} of one node" if ask.gpus != 1 else "a GPU"
    if not len(cluster):
        return NoSpot(False, "There is no node at present.")
    if not _ever(cluster, ask):
        return NoSpot(False, f"No node could ever give {wants} with {_amounts(ask)}.", rejections, candidates)
    return NoSpot(True, f"No node has room for {wants} with {_amounts(ask)} now.", rejections, candidates)


def _ever(cluster: Cluster, ask: Ask) -> bool:
    """Would it fit on a node with nothing on it? Cordoned GPUs count: they may be opened again."""
    fits = cluster.present & (cluster.total_milli >= ask.compute_milli) & (cluster.total_bytes >= ask.gpu_bytes)
    if ask.gpu_types:
        codes = [cluster.types[name] for name in ask.gpu_types if name in cluster.types]
        fits &= np.isin(cluster.type, codes)
    enough = (cluster.total_cpu >= ask.cpu_milli) & (cluster.total_host >= ask.host_bytes)
    return bool((enough & (fits.sum(axis=1) >= ask.gpus)).any())


def _rejected(
    cluster: Cluster, ask: Ask, scale: float, turned_down: Bools, allowed: Bools | None, limit: int
) -> tuple[Candidate, ...]:
    if limit <= 0:
        return ()
    room = np.minimum(cluster.free_bytes * scale, cluster.free_milli) if ask.gpu_bytes else cluster.free_milli
    most = np.where(cluster.present, room, -1.0).max(axis=1, initial=-1.0)
    order = np.argsort(-np.where(turned_down, most, -np.inf), kind="stable")[:limit]
    why = _reasons(cluster, ask, allowed)
    found = []
    for row in (int(row) for row in order if turned_down[row] and cluster.gpus_of[int(row)]):
        place = int(np.argmax(np.where(cluster.present[row], room[row], -1.0)))
        free_bytes = int(cluster.free_bytes[row, place])
        found.append(Candidate(cluster.gpu_at(row, place).id, free_bytes, rejected=why[row]))
    return tuple(found)


def _reasons(cluster: Cluster, ask: Ask, allowed: Bools | None) -> list[str]:
    """Of each node, the first that holds."""
    rows = np.arange(len(cluster))
    fits, enough = feasible(cluster, ask, rows)
    codes = [cluster.types[name] for name in ask.gpu_types if name in cluster.types]
    right_type = np.isin(cluster.type, codes).any(axis=1) if ask.gpu_types else np.ones(len(rows), np.bool_)
    fitting = fits.sum(axis=1)
    why = np.select(
        [
            np.zeros(len(rows), np.bool_) if allowed is None else ~allowed,
            ~right_type,
            enough,
            cluster.free_cpu < ask.cpu_milli,
            cluster.free_host < ask.host_bytes,
            ~(cluster.present & ~cluster.cordoned).any(axis=1),
        ],
        [0, 1, 2, 3, 4, 5],
        6,
    )
    words = (
        "not on this node",
        f"no {' or '.join(ask.gpu_types)}",
        "dearer or less wanted",
        "too few CPUs free",
        "too little host RAM free",
        "cordoned",
    )
    return [
        words[code] if code < len(words) else f"{number} of {count(ask.gpus, 'GPU')} with room"
        for code, number in zip(why.tolist(), fitting.tolist(), strict=True)
    ]


def _amounts(ask: Ask) -> str:
    parts = [size(ask.gpu_bytes)] if ask.gpu_bytes else []
    parts += [f"{ask.compute_milli / 10:g}% of its compute"] if ask.compute_milli else []
    parts += [f"{ask.cpu_milli / 1000:g} CPUs"] if ask.cpu_milli else []
    parts += [f"{size(ask.host_bytes)} of host RAM"] if ask.host_bytes else []
    parts += [f"type {' or '.join(ask.gpu_types)}"] if ask.gpu_types else []
    return ", ".join(parts) or "nothing else"
