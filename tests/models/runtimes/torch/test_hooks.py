"""Finding and making a class that is not ours, and reading what it offers."""

from __future__ import annotations

import logging
import sys

import pytest

from models.runtimes.protocol import EngineError
from models.runtimes.torch.arguments import Arguments
from models.runtimes.torch.batch_queue import Limits
from models.runtimes.torch.hooks import make_model, read_hooks

HERE = "tests.models.runtimes.torch.test_hooks"
PACKAGE = "tests.models.runtimes.bad_classes"


class Plain:
    task = "predict"

    def load(self, device, weights):
        pass

    def predict(self, batch):
        return batch


class Full(Plain):
    batch_size = 7
    max_delay_s = 0.5

    def batch_key(self, item):
        return type(item)

    def stream(self, item):
        yield item

    def on_cancel(self, item):
        pass

    def example(self):
        return 1


class NoPredict:
    task = "predict"

    def load(self, device, weights):
        pass


class NoTask(Plain):
    task = None  # type: ignore[assignment]


class Raises(Plain):
    def __init__(self):
        raise ValueError("the moon is full\nand more")


class RaisesAttributeError(Plain):
    def __init__(self):
        self.missing.thing()  # type: ignore[attr-defined]


class Exits(Plain):
    def __init__(self):
        sys.exit(3)


def test_a_class_is_made():
    assert isinstance(make_model(f"{HERE}:Plain"), Plain) or type(make_model(f"{HERE}:Plain")).__name__ == "Plain"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no.such.module:Model", "engine_args.python_class: no.such.module cannot be imported (No module named 'no')"),
        (f"{HERE}:Nothing", f"engine_args.python_class: {HERE} has no Nothing"),
        (f"{HERE}:NoPredict", "engine_args.python_class: NoPredict has no method predict"),
        (f"{HERE}:NoTask", 'NoTask has no task; say for example task = "predict" in the class'),
        (f"{HERE}:Raises", "Raises could not be made: the moon is full"),
        (
            f"{HERE}:RaisesAttributeError",
            "RaisesAttributeError could not be made: 'RaisesAttributeError' object has no",
        ),
        (f"{HERE}:Exits", "Exits could not be made: the model's class raised SystemExit"),
        (f"{PACKAGE}.import_raises:Model", "import_raises failed while it was imported: not on a Sunday"),
        (f"{PACKAGE}.import_exits:Model", "import_exits failed while it was imported: the model's class raised"),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence(name, said):
    with pytest.raises(EngineError) as told:
        make_model(name)
    assert said in str(told.value)
    assert "\n" not in str(told.value)
    assert told.value.fault == "code"


def test_the_traceback_is_in_the_log_alone(caplog):
    logging.getLogger("roundhouse").propagate = True
    with caplog.at_level(logging.ERROR), pytest.raises(EngineError):
        make_model(f"{HERE}:Raises")
    assert "Traceback" in caplog.text
    assert "and more" in caplog.text


def test_what_a_class_has_not_has_a_default():
    hooks = read_hooks(Plain(), Arguments())
    assert hooks.limits == Limits()
    assert (hooks.batch_key, hooks.stream, hooks.on_cancel, hooks.example) == (None, None, None, None)


def test_what_a_class_has_is_used():
    model = Full()
    hooks = read_hooks(model, Arguments())
    assert (hooks.limits.batch_size, hooks.limits.max_delay_s) == (7, 0.5)
    assert (hooks.batch_key, hooks.stream) == (model.batch_key, model.stream)
    assert (hooks.on_cancel, hooks.example) == (model.on_cancel, model.example)


def test_the_card_goes_before_the_class():
    given = Arguments(max_batch=3, max_delay=0.0, max_queue=9, predict_timeout=5, request_timeout=6)
    assert read_hooks(Full(), given).limits == Limits(
        batch_size=3, max_delay_s=0.0, queue_size=9, predict_timeout_s=5, request_timeout_s=6
    )


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"batch_size": 0}, "Odd.batch_size must be a whole number above 0"),
        ({"batch_size": "many"}, "Odd.batch_size must be a whole number above 0"),
        ({"max_delay_s": -1}, "Odd.max_delay_s must be a time in seconds"),
        ({"max_delay_s": "soon"}, "Odd.max_delay_s must be a time in seconds"),
        ({"stream": True}, "Odd.stream is no method"),
        ({"example": "an example"}, "Odd.example is no method"),
    ],
)
def test_a_hook_of_the_wrong_kind_is_named(attributes, said):
    with pytest.raises(EngineError, match=said) as told:
        read_hooks(type("Odd", (Plain,), attributes)(), Arguments())
    assert told.value.fault == "code"
