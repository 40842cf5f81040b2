"""One row per gateway, the fastest first."""

from __future__ import annotations

from loadtests.gateway.comparison import DIRECT
from loadtests.gateway.passes import Measure, Pass
from loadtests.gateway.table import COLUMNS, table


def one(rps: float, p50: float) -> Pass:
    return Pass(figures={Measure.RPS_16: rps, Measure.P50_1: p50})


def test_rows_are_ordered_and_say_what_is_added() -> None:
    shown = table({"nginx": [one(60_000, 120)], DIRECT: [one(78_000, 16)], "slow": [one(90, 11_000), one(110, 12_000)]})
    header, *rows = shown.split("\n")
    assert [row.split()[0] for row in rows] == [DIRECT, "nginx", "slow"]
    titles = [title for title, _ in COLUMNS]
    assert all(title in header for title in titles)
    cells = {row.split()[0]: row.split()[1:] for row in rows}
    place = titles.index("rps c16")
    assert [cells[name][place] for name in (DIRECT, "nginx", "slow")] == ["78000", "60000", "100.0"]
    assert [cells[name][place + 2] for name in (DIRECT, "nginx", "slow")] == ["1.30", "1.00", "0.00"]
    added = titles.index("+p50 us")
    assert [cells[name][added] for name in (DIRECT, "nginx", "slow")] == ["-", "104.0", "10984"]


def test_columns_stand_below_each_other() -> None:
    header, *rows = table({"a": [one(1, 1)], "much-longer-name": [one(2, 2)]}).split("\n")
    assert len({len(line) for line in (header, *rows)}) == 1


def test_without_nginx_there_is_no_ratio() -> None:
    row = table({"a": [one(5, 1)]}).split("\n")[1]
    assert row.split()[4] == "-"
