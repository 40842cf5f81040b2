from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest

from loadtests.chaos.census import Census, Process
from loadtests.chaos.stage import Stage
from loadtests.coldstart.admin import Admin
from tests.loadtests.chaos.town import FakeCensus, Town


@pytest.fixture
def town() -> Iterator[Town]:
    with Town().open() as running:
        yield running


@pytest.fixture
def census(town: Town) -> FakeCensus:
    return FakeCensus(town)


@pytest.fixture
def stage(town: Town, census: FakeCensus) -> Iterator[Stage]:
    made = Stage(Admin(town.target), cast(Census, census))
    yield made
    for callers in made.everybody:
        callers.join(10)


@pytest.fixture
def of_kind() -> Callable[[str], Process]:
    """A process that does not exist, of some kind."""
    return lambda kind: Process(6_000_000, 0, 1, kind)
