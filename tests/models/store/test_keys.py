"""Every key of an installation lies under its prefix, and no two of them are the same."""

from __future__ import annotations

from fnmatch import fnmatchcase

from models.store.keys import Keys


def all_keys(keys: Keys) -> list[str]:
    fixed = [getattr(keys, name) for name in vars(Keys) if isinstance(vars(Keys)[name], property)]
    makers = (keys.kept, keys.kept_index, keys.kept_bytes)
    kept = [make(kind, owner) for make in makers for kind in ("files", "batches") for owner in ("o", "p")]
    places = [make(place) for make in (keys.batches_open, keys.batch_lease) for place in ("a", "b")]
    due = [keys.kept_due("files"), keys.kept_due("batches")]
    told = [keys.alert_told(place) for place in ("key:a", "key:b")]
    return [*fixed, *told, keys.demand("w1"), keys.demand("w2"), keys.reply("c1"), *kept, *due, *places]


def test_all_lie_under_the_prefix():
    assert all(key.startswith("mine:") for key in all_keys(Keys("mine")))


def test_none_is_used_twice():
    names = all_keys(Keys())
    assert len(names) == len(set(names)) > 10


def test_the_pattern_finds_demand_and_nothing_else():
    keys = Keys("mine")
    found = [key for key in all_keys(keys) if key != keys.demand_pattern and fnmatchcase(key, keys.demand_pattern)]
    assert found == [keys.demand("w1"), keys.demand("w2")]
