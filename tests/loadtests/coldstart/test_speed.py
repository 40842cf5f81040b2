"""Speeds are of whole answers: gaps between tokens for one caller, tokens a second for many."""

from __future__ import annotations

import pytest

from loadtests.chat import StreamBroken
from loadtests.coldstart.bare_passes import SPEED_PASSES, measure_speeds
from loadtests.coldstart.figure import Figure
from loadtests.coldstart.speed import token_gap_s, tokens_per_s
from tests.loadtests.fake_service import FakeModel, FakeService

WORDS = ("a", "b", "c", "d", "e")


def test_the_gap_is_that_of_the_tokens() -> None:
    with FakeService({"llama": FakeModel(words=WORDS, gap_s=0.01, state="ready")}).running() as service:
        assert token_gap_s(service.target, "llama") >= 0.009
        assert service.asked[0]["ignore_eos"] is True


def test_an_answer_of_one_token_has_no_gap() -> None:
    with FakeService({"llama": FakeModel(words=("a",))}).running() as service, pytest.raises(StreamBroken):
        token_gap_s(service.target, "llama")


def test_callers_ask_at_once() -> None:
    model = FakeModel(words=WORDS, gap_s=0.02, state="ready")
    with FakeService({"llama": model}).running() as service:
        rate = tokens_per_s(service.target, "llama", callers=8)
        assert len(service.asked) == 8
    assert rate > 1 / model.gap_s  # one after the other would be slower than this


def test_the_first_pass_of_each_speed_is_not_counted() -> None:
    gap, crowd = Figure("gap", "llama", unit="ms"), Figure("crowd", "llama", unit="tokens/s")
    with FakeService({"llama": FakeModel(words=WORDS, state="ready")}).running() as service:
        measure_speeds(service.target, "llama", gap, crowd)
    assert len(gap.values) == len(crowd.values) == SPEED_PASSES
    assert min(crowd.values) > 0
