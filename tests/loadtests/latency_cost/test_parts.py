"""What each part makes of what its load test left; figures that may not be believed are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.compare.options import parse as parse_compare
from loadtests.compare.table import TITLES
from loadtests.latency_cost import parts
from loadtests.latency_cost.parts import PARTS, PEERS, STARTED, NoFigures, present
from loadtests.latency_cost.where import command, footing
from loadtests.options import parse
from tests.loadtests.latency_cost import made

MADE = {"gateway": made.gateway, "tiers": made.tiers, "spike": made.spike}


def test_every_part_is_a_load_test_that_there_is() -> None:
    for name, part in PARTS.items():
        if name == PEERS:
            assert parse_compare([*part.words[1:], ",".join(STARTED)]).start == STARTED
        else:
            assert parse(part.words).suite == part.words[0]


@pytest.mark.parametrize("name", MADE)
def test_a_part_is_told_in_one_line_and_has_rows(name: str, tmp_path: Path) -> None:
    found = PARTS[name].measured(MADE[name](tmp_path))
    assert len({len(row) for row in found.rows}) == 1
    assert "\n" not in found.said
    assert found.rows[0][-1 if name == "gateway" else 2] in found.said
    assert found.started_unix_s > 0


@pytest.mark.parametrize("name", MADE)
def test_runs_that_are_not_valid_leave_no_figures(name: str, tmp_path: Path) -> None:
    with pytest.raises(NoFigures, match="left late"):
        PARTS[name].measured(MADE[name](tmp_path, 90.0))


@pytest.mark.parametrize("name", PARTS)
def test_a_load_test_that_left_nothing_leaves_no_figures(name: str, tmp_path: Path) -> None:
    with pytest.raises(NoFigures, match=r"\.json"):
        PARTS[name].measured(tmp_path)


def test_a_spike_has_the_engine_alone_beside_it_and_how_many_replicas_came(tmp_path: Path) -> None:
    calm, spike = PARTS["spike"].measured(made.spike(tmp_path)).rows
    assert (calm[:2], spike[:2]) == (["calm, 1 a second", "40"], ["spike, 20 a second", "80"])
    assert (calm[6], spike[6]) == ("1", "3")
    assert calm[7] == "0 / 0"
    assert calm[2] != calm[4]


def test_who_failed_has_no_figures_and_the_others_have_theirs(tmp_path: Path) -> None:
    found = PARTS[PEERS].measured(made.peers(tmp_path, litellm="litellm ended with 2:\nno such option"))
    assert [row[0] for row in found.rows] == ["roundhouse", "plain-vllm", "litellm"]
    assert [row[-1] for row in found.rows] == ["yes", "yes", "not measured"]
    assert "litellm: litellm ended with 2. `make" in footing(found, PEERS, 0.1, {})


def test_who_was_measured_by_runs_that_are_not_valid_has_no_figures_either(tmp_path: Path) -> None:
    found = PARTS[PEERS].measured(made.peers(tmp_path, late_ms=90.0))
    assert found.rows[2] == ["litellm", *["-"] * (len(TITLES) - 2), "not valid"]
    assert found.rows[0][1] != "-"
    assert list(found.left_out) == ["litellm"]


def test_one_alone_is_compared_with_nobody(tmp_path: Path) -> None:
    folder = made.peers(tmp_path, **{"plain-vllm": "no vLLM"}, litellm="not there")  # type: ignore[arg-type]
    with pytest.raises(NoFigures, match="plain-vllm: no vLLM\nlitellm: not there"):
        PARTS[PEERS].measured(folder)


def test_a_page_says_when_on_what_and_by_which_command(tmp_path: Path) -> None:
    note = footing(PARTS["tiers"].measured(made.tiers(tmp_path)), "tiers", 0.25, {"late-comer": "not there"})
    assert note == (
        "2027-01-15 08:00 UTC, 3 passes; a processor, 4 cores, 16 GiB, simulated GPUs; load before 0.2. "
        "late-comer: not there. `make latency-cost ONLY=tiers`"
    )
    assert command(PEERS) == "make latency-cost ONLY=peers PEERS=dir"


def test_what_is_not_installed_is_known_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("loadtests.compare.startable._no_vllm", lambda _peers=None: None)
    names, missing = present(tmp_path)
    assert names == ["roundhouse", "plain-vllm"]
    assert set(missing) == set(parts.STARTED[2:])
    assert all("make bench-peers" in why for why in missing.values())
