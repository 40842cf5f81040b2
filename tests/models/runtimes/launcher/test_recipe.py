"""What is warmed, and the way down when it breaks."""

from __future__ import annotations

import pytest

from models.runtimes.launcher.recipe import recipe_for
from models.runtimes.protocol import FORCED

BOTH = ("vllm", "torch")


def test_down_from_the_fast_path_over_the_plain_one_to_nothing():
    wanted = recipe_for(BOTH)
    plain = wanted.without("vllm", "it crashed")
    assert (plain.plain, plain.given_up) == ({"vllm": "it crashed"}, {})
    nothing = plain.without("vllm", "that, too")
    assert nothing.given_up == {"vllm": "that, too"}
    assert wanted.plain == {}


def test_what_has_no_fallback_is_given_up_at_once():
    assert recipe_for(BOTH).without("torch", "it hangs").given_up == {"torch": "it hangs"}


def test_the_way_of_vllm_can_be_chosen():
    assert recipe_for(BOTH, "plain").plain == {"vllm": FORCED}
    assert recipe_for(("torch",), "plain").plain == {}
    fast = recipe_for(BOTH, "fast")
    assert not fast.falls_back("vllm")
    assert fast.without("vllm", "it crashed").given_up == {"vllm": "it crashed"}


@pytest.mark.parametrize("name", ["torch", "vllm", "package.module:factory"])
def test_only_vllm_has_a_fallback(name):
    assert recipe_for((name,)).falls_back(name) == (name == "vllm")
