"""When a warm process is due to be replaced."""

from __future__ import annotations

import pytest

from models.runtimes.launcher.ageing import MIB, Age, Bounds, why_old

BOUNDS = Bounds(grown_bytes=100 * MIB, forks=10, age_s=7200.0)
UNBOUND = Bounds(grown_bytes=0, forks=0, age_s=0.0)


def age(grown_mib=0, forks=0, age_s=0.0):
    return Age(rss_bytes=(600 + grown_mib) * MIB, warm_rss_bytes=600 * MIB, forks=forks, age_s=age_s)


@pytest.mark.parametrize(
    ("reached", "why"),
    [
        (age(), None),
        (age(grown_mib=100, forks=9, age_s=7199), None),
        (age(grown_mib=-50), None),
        (age(grown_mib=101), "its memory grew by 101 MiB"),
        (age(forks=10), "it has forked 10 times"),
        (age(age_s=7200), "it is 2.0 hours old"),
    ],
)
def test_each_bound(reached, why):
    assert why_old(reached, BOUNDS) == why


def test_no_bound_is_never_passed():
    assert why_old(age(grown_mib=10**6, forks=10**6, age_s=1e9), UNBOUND) is None
