from __future__ import annotations

import json

from loadtests.chaos.calls import How
from loadtests.chaos.matrix import document, reasons, samples_line, table
from loadtests.chaos.recovery import Recovered
from tests.loadtests.chaos.results import call, result


def test_a_row_for_each_fault_a_column_for_each_moment() -> None:
    played = [
        result("engine-9", "idle"),
        result("engine-9", "load", call(How.ERROR_EVENT, streamed=True)),
        result("redis-9", "load", call(How.REFUSED, "cold")),
    ]
    lines = table(played).splitlines()
    assert lines[0].split() == ["idle", "load"]
    assert " ".join(lines[1].split()) == "engine-9 ok 0/0/0 of 1 0.1/1.8 s ok 0/1/0 of 2 0.1/1.8 s"
    assert " ".join(lines[2].split()) == "redis-9 ok 0/0/1 of 2 0.1/1.8 s"
    assert len(lines) == 4, "the legend ends it: nothing is red"


def test_a_red_cell_says_why_below() -> None:
    lost = result("gcs-9", "idle", recovered=Recovered({"scaling": None}, {"scaling": "no answer of cold"}))
    text = table([lost])
    assert "RED 0/0/0 of 1  0.1/- s" in text
    assert text.endswith("gcs-9 x idle: not recovered (scaling): no answer of cold")
    assert reasons([lost]) == ["gcs-9 x idle: not recovered (scaling): no answer of cold"]


def test_a_cell_that_was_not_played_has_no_figures() -> None:
    assert "RED not played" in table([result(problem="nothing began")])


def test_the_document_has_every_cell_with_its_promise_and_its_reasons() -> None:
    bad = result("controller-9", "load", call(How.BROKEN, text="reset"))
    written = json.loads(json.dumps(document([result("engine-9", "idle"), bad], {"benchmark": "chaos"})))
    assert (written["benchmark"], written["green"], written["of"]) == ("chaos", 1, 2)
    cell = written["cells"][1]
    assert (cell["promise"], cell["calls"], cell["failed_before_first_byte"]) == ("R5", 2, 1)
    assert cell["red"] == ["a call of steady failed before the first byte: broken: reset (1 times)"]
    assert cell["failures"] == {"steady: broken: reset": 1}
    assert cell["recovered_s"]["controller"] == 1.5


def test_how_often_was_looked() -> None:
    spoiled = result()
    spoiled.seen.wrong = {"something": 2}
    assert samples_line([result(), spoiled]) == (
        "ledger looked at 80 times, processes 82 times: 2 times something was wrong"
    )
