"""What has to go: invariants of the choice, and of the store that follows it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.weights.eviction import Item, choose
from models.weights.records import Settings
from models.weights.store import WeightStore

ITEMS = st.lists(
    st.builds(
        lambda number, size, used, held: Item("layout", Path(f"/w/{number}"), size, float(used), "r1" if held else ""),
        st.integers(0, 10_000),
        st.integers(0, 100),
        st.integers(0, 5),
        st.booleans(),
    ),
    max_size=12,
    unique_by=lambda item: item.path,
)


@given(ITEMS, st.integers(-50, 1500))
def test_enough_goes_or_everything_that_may(items, excess):
    choice = choose(items, excess)
    free = sum(item.bytes for item in items if not item.held)
    assert not any(item.held for item in choice.victims)
    if excess <= 0:
        assert choice.victims == ()
    assert choice.freed_bytes + choice.short_bytes >= excess
    assert choice.short_bytes == max(0, excess - free)


@given(ITEMS, st.integers(1, 1500))
def test_nothing_goes_for_nothing(items, excess):
    choice = choose(items, excess)
    if not choice.short_bytes:
        assert all(choice.freed_bytes - item.bytes < excess for item in choice.victims)


@given(ITEMS, st.integers(1, 1500))
def test_what_was_used_later_goes_only_when_all_before_it_are_not_enough(items, excess):
    choice = choose(items, excess)
    for victim in choice.victims:
        earlier = [
            item
            for item in items
            if not item.held and (item.used_unix_s, str(item.path)) < (victim.used_unix_s, str(victim.path))
        ]
        assert sum(item.bytes for item in earlier) < excess


def test_the_least_recently_used_goes_first():
    items = [Item("layout", Path(f"/w/{name}"), 10, used) for name, used in (("a", 3.0), ("b", 1.0), ("c", 2.0))]
    assert [item.path.name for item in choose(items, 15).victims] == ["b", "c"]


def test_a_large_one_that_came_last_spares_the_small():
    items = [Item("layout", Path("/w/small"), 10, 1.0), Item("layout", Path("/w/large"), 100, 2.0)]
    assert [item.path.name for item in choose(items, 50).victims] == ["large"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9), st.booleans()), max_size=6),
    st.integers(0, 200),
)
def test_after_a_prune_the_quota_is_kept_unless_engines_need_more(layouts, quota_kib):
    """On a real store: sizes in KiB, time of last use, whether an engine runs from it."""
    import os

    with tempfile.TemporaryDirectory() as root:
        now = [0.0]
        store = WeightStore(Path(root), env={}, clock=lambda: now[0], free_bytes=lambda folder: 2**40)
        store.configure(Settings(quota_bytes=quota_kib * 1024))
        needed = set()
        for number, (kib, used_s, runs) in enumerate(layouts):
            layout = store.paths.layouts / f"{number}"
            layout.mkdir(parents=True)
            (layout / "key.safetensors").write_bytes(b"x" * kib * 1024)
            now[0] = float(used_s)
            store.space.stamp(layout, f"/models/{number}")
            if runs:
                store.uses.hold(f"r{number}", os.getpid(), Path(f"/models/{number}"), layout)
                needed.add(layout)
        choice = store.prune()
        left = {item.path: item.bytes for item in store.items()}
        assert needed <= left.keys()
        assert sum(left.values()) <= quota_kib * 1024 or left.keys() == needed
        assert choice.short_bytes == max(0, sum(left.values()) - quota_kib * 1024)
        assert not list(store.paths.trash.glob("*"))
