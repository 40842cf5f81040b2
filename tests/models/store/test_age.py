"""How old what is written is."""

from __future__ import annotations

import pytest

from models.clock import SinceBoot
from models.store.age import age_s
from models.store.records import FleetRecord

WRITTEN = FleetRecord(seq=1, updated_unix_s=1000.0, controller_pid=1, boot="this", since_boot_s=50.0)


@pytest.mark.parametrize("set_by_s", [0.0, 3600.0, -3600.0])
def test_on_the_same_machine_it_is_as_old_as_it_is(set_by_s: float) -> None:
    assert age_s(WRITTEN, 1003.0 + set_by_s, lambda: SinceBoot("this", 53.0)) == 3.0


@pytest.mark.parametrize("boot", ["another", ""])
def test_elsewhere_the_clocks_are_believed_but_nothing_is_younger_than_new(boot: str) -> None:
    assert age_s(WRITTEN, 1003.0, lambda: SinceBoot(boot, 9.0)) == 3.0
    assert age_s(WRITTEN, 990.0, lambda: SinceBoot(boot, 9.0)) == 0.0
