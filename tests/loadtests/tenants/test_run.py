"""The whole benchmark, for a moment: a real gateway, its Redis, tenants and their callers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtests.tenants.__main__ import main


@pytest.mark.long  # 11 s
def test_it_prints_a_line_for_each_way_and_writes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--passes", "1", "--seconds", "0.5", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["S6 shared out fairly", "S6 and limited"]
    document = json.loads((tmp_path / "tenants.json").read_text())
    assert document["share_per_s"] == 160.0
    fair, limited = document["figures"]
    assert fair["limit"] == limited["limit"] == 1.5
    assert "429" in limited["details"]["noisy"][0]["10"], "what is above its limit is refused"


def test_wrong_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["--passes", "0"])
    assert refused.value.code == 2
    assert "--passes must be at least 1" in capsys.readouterr().err
