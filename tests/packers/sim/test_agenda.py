from __future__ import annotations

from packers.sim.agenda import Agenda, Kind


def test_time_then_kind_then_the_order_of_entry() -> None:
    agenda, seen = Agenda(), []
    for at_s, kind, name in [
        (2, Kind.DECIDE, "decide"),
        (2, Kind.FLEET, "first"),
        (2, Kind.FLEET, "second"),
        (2, Kind.HARDWARE, "hardware"),
        (1, Kind.DECIDE, "early"),
    ]:
        agenda.at(at_s, kind, lambda name=name: seen.append(name))  # type: ignore[misc]
    while agenda.step():
        pass
    assert seen == ["early", "hardware", "first", "second", "decide"]
    assert agenda.now_s == 2


def test_arrivals_come_after_the_world_has_changed_and_before_decisions() -> None:
    agenda, seen = Agenda(), []
    agenda.at(5, Kind.DECIDE, lambda: seen.append("decide"))
    agenda.at(5, Kind.FLEET, lambda: seen.append("ready"))
    agenda.run_before(5, Kind.ARRIVAL)
    assert (seen, agenda.now_s, agenda.next_s) == (["ready"], 5, 5)


def test_the_past_means_now() -> None:
    agenda, seen = Agenda(), []
    agenda.run_before(10, Kind.ARRIVAL)
    agenda.at(3, Kind.FLEET, lambda: seen.append(agenda.now_s))
    agenda.step()
    assert seen == [10]
    assert not agenda.step()
    assert agenda.next_s == float("inf")
