"""The torch runtime's engine_args: each wrong one is named with what it must be."""

from __future__ import annotations

import pytest

from models.runtimes.protocol import EngineError
from models.runtimes.torch.arguments import LOAD_TIMEOUT_S, PREDICT_TIMEOUT_S, Arguments


def test_nothing_given():
    arguments = Arguments.read({})
    assert (arguments.process, arguments.python_class, arguments.max_batch) == ("own", None, None)
    assert (arguments.predict_timeout, arguments.load_timeout) == (PREDICT_TIMEOUT_S, LOAD_TIMEOUT_S)


def test_everything_given():
    given = {
        "python_class": "shop.models:Painter",
        "process": "shared",
        "settings": {"steps": 4},
        "max_batch": 8,
        "max_delay": 0.005,
        "max_queue": 100,
        "predict_timeout": 3,
        "load_timeout": 0,
        "request_timeout": 1.5,
    }
    arguments = Arguments.read(given)
    assert {name: getattr(arguments, name) for name in given} == given


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pyton_class": "x"}, "engine_args.pyton_class is not an argument of the torch runtime; did you mean"),
        ({"zzz": 1}, "there are python_class, process, settings, max_batch"),
        ({"python_class": "torch"}, "engine_args.python_class must be written as package.module:Class, not 'torch'"),
        ({"python_class": ":X"}, "must be written as package.module:Class"),
        ({"process": "mine"}, "engine_args.process must be own or shared, not 'mine'"),
        ({"settings": [1]}, "engine_args.settings must be an object"),
        ({"process": "shared", "sleep": "checkpoint"}, "process must be own"),
        ({"max_batch": 0}, "engine_args.max_batch must be a whole number above 0, not '0'"),
        ({"max_batch": True}, "engine_args.max_batch must be a whole number above 0"),
        ({"max_queue": 1.5}, "engine_args.max_queue must be a whole number above 0"),
        ({"max_delay": -1}, "engine_args.max_delay must be a time in seconds"),
        ({"predict_timeout": "1s"}, "engine_args.predict_timeout must be a time in seconds, not '1s'"),
        ({"load_timeout": float("inf")}, "engine_args.load_timeout must be a time in seconds"),
        ({"request_timeout": None}, "engine_args.request_timeout must be a time in seconds"),
    ],
)
def test_a_wrong_one_is_named(given, said):
    with pytest.raises(EngineError) as told:
        Arguments.read(given)
    assert said in str(told.value)
