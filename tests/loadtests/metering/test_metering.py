"""The benchmark of limits and metering, on few events."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.metering import __main__ as bench
from loadtests.metering.settling import Mix, Settling


def test_a_short_run_settles_every_event_and_tells_of_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--events", "300", "--passes", "1", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for told in ("usual: 97 keys", "scattered: 1000 keys", "2 rules", "4 rules", "its event in the log"):
        assert sum(told in line for line in lines) == 1, told
    written = json.loads((tmp_path / "metering.json").read_text())
    assert {figure["unit"] for figure in written["figures"]} == {"/s", "us"}
    assert all(figure["value"] > 0 for figure in written["figures"])


def test_the_median_is_told_and_held_against_the_goal() -> None:
    passes = [Settling(rate, rate / 2, 0.1, script) for rate, script in ((30_000, 5), (10_000, 9), (19_000, 7))]
    figure = bench.settled(Mix("usual", 3, 1, scattered=False), passes)
    assert (figure.value, figure.met, figure.others["longest script, ms"]) == (19_000, False, 9)


@pytest.mark.parametrize("wrong", [["--events", "0"], ["--passes", "0"]])
def test_wrong_sizes_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(wrong)
