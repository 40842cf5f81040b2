"""What is shown of an answer to an order: to people, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.cli.ordering import show_reply
from gateway.cli.output import show_text

REPLY: dict[str, Any] = {"message": "n is empty", "actions": ["m-1", "m-2"], "detail": {"plan": ["stop m-1"]}}


def show_plan(detail: Mapping[str, Any]) -> None:
    for action in detail["plan"]:
        show_text(f"plan: {action}")


def test_what_was_said_and_whom_it_concerns(capsys: pytest.CaptureFixture[str]) -> None:
    show_reply(REPLY, False)
    assert capsys.readouterr().out.splitlines() == ["n is empty", "  m-1", "  m-2"]


def test_a_dry_run_also_shows_what_it_would_lead_to(capsys: pytest.CaptureFixture[str]) -> None:
    show_reply({**REPLY, "actions": []}, False, show_plan)
    assert capsys.readouterr().out.splitlines() == ["n is empty", "plan: stop m-1"]


def test_as_json_it_is_the_answer_itself(capsys: pytest.CaptureFixture[str]) -> None:
    show_reply(REPLY, True, show_plan)
    assert json.loads(capsys.readouterr().out) == REPLY
