"""Which of the replicas that have room gets a request. Pure; randomness is passed in."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import ceil, fsum
from random import Random

from gateway.admit.hashing import LOW_64, MIX, point, score, spread, weighted
from gateway.admit.target import Target

BOUND = 1.25  # of the mean load: what a replica takes for the sake of its prefix cache


def others(targets: list[Target], avoid: Collection[str]) -> list[Target]:
    """Not the ones to avoid, unless there is no other."""
    return [target for target in targets if target.id not in avoid] or targets


def of_revision(targets: list[Target], traffic: Mapping[str, float], session: int, rng: Random) -> list[Target]:
    """The replicas of one revision, drawn by its share of the traffic: a session always draws the same.

    Shares are among the revisions that have room here: a request goes elsewhere rather than wait. All of them when no
    revision that has a share is among them.
    """
    revisions = sorted({target.revision for target in targets if traffic.get(target.revision, 0.0) > 0.0})
    if not revisions:
        return targets
    if len(revisions) > 1:
        left = (point(session) if session else rng.random()) * fsum(traffic[revision] for revision in revisions)
        for revision in revisions[:-1]:
            left -= traffic[revision]
            if left < 0.0:
                break
        else:
            revision = revisions[-1]
    else:
        revision = revisions[0]
    return [target for target in targets if target.revision == revision]


def home_of(targets: Sequence[Target], key: int, *, even: bool = True) -> Target:
    """The replica that a session stays with as long as it is there; when it goes, only its sessions move.

    ``even``: all have the same weight. Rendezvous hashing (Thaler & Ravishankar 1998), else weighted.
    """
    stirred = spread(key)
    if not even:
        return max(targets, key=lambda target: weighted(score(stirred, target.salt), target.weight))
    home, highest = targets[0], -1
    for target in targets:
        found = ((stirred ^ target.salt) * MIX) & LOW_64  # ``score``, without a call for each
        if found > highest:
            home, highest = target, found
    return home


def bounded_home_of(targets: Sequence[Target], key: int, *, even: bool = True) -> Target:
    """As ``home_of``, but nobody takes more than BOUND times its share of the load.

    Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018): the next in the order of the key
    gets what the first may not have.
    """
    home = home_of(targets, key, even=even)
    flying, weight = 1, 0.0
    for target in targets:
        flying += target.flying
        weight += target.weight
    share = BOUND * flying / weight
    if home.flying < ceil(share * home.weight):
        return home
    stirred = spread(key)
    for target in sorted(targets, key=lambda one: -weighted(score(stirred, one.salt), one.weight)):
        if target.flying < ceil(share * target.weight):
            return target
    return home


def lighter(one: Target, other: Target) -> Target:
    """The one with less work by its weight; of equals the first."""
    return one if one.tokens * other.weight <= other.tokens * one.weight else other


def of_two(targets: Sequence[Target], rng: Random, *, even: bool = True) -> Target:
    """The lighter of two drawn ones (the power of two choices, Mitzenmacher 2001); of equals the first of them all.

    Where weights differ they are drawn by weight, so that they count while nothing is going on as well.
    """
    if not even:
        return lighter(*rng.choices(targets, [target.weight for target in targets], k=2))
    count = len(targets)
    if count == 2:
        return lighter(targets[0], targets[1])
    i = int(rng.random() * count)
    j = int(rng.random() * (count - 1))
    if j >= i:
        return lighter(targets[i], targets[j + 1])
    return lighter(targets[j], targets[i])


def pick(targets: list[Target], session: int, prefix: int, rng: Random, *, even: bool = True) -> Target:
    """One of ``targets``, of which there is at least one and each has room.

    1. A session stays with its replica.
    2. The first while it is idle: where there is little to do it has all prompts in its cache, and the others, which
       are not needed, fall idle. Not where weights say how much each is to have.
    3. Prompts that begin alike meet on one replica, within bounds.
    4. The lighter of two.
    """
    if len(targets) == 1:
        return targets[0]
    if session:  # 1
        return home_of(targets, session, even=even)
    if even and not targets[0].flying:  # 2
        return targets[0]
    if prefix:  # 3
        return bounded_home_of(targets, prefix, even=even)
    return of_two(targets, rng, even=even)  # 4
