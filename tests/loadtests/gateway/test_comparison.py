"""What went wrong, and what came between, is told next to the figures."""

from __future__ import annotations

from loadtests.gateway.comparison import Compared
from loadtests.gateway.passes import Measure, Pass


def test_troubles_are_named_with_their_pass() -> None:
    compared = Compared({"nginx": [Pass(), Pass(troubles=["64 connections: 3 requests failed"])]})
    assert compared.troubles == ["nginx, pass 2: 64 connections: 3 requests failed"]


def test_a_pass_that_shared_its_core_is_named() -> None:
    shares = [Pass(figures={Measure.OTHERS: share}) for share in (0.01, 0.4)]
    assert Compared({"nginx": shares, "direct": [Pass()]}).disturbed == [
        "nginx, pass 2: others took 40% of its core meanwhile"
    ]
