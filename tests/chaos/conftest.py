from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtests.chaos.service import ChaosService
from tests.e2e.service import temporary_home


@pytest.fixture(scope="package")
def service() -> Iterator[ChaosService]:
    """One for all cells, started when the first one is played; in the end nothing is left of it."""
    with temporary_home() as home:
        running = ChaosService(home)
        try:
            yield running
        finally:
            left = running.down()
        assert left == ()
