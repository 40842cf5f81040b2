"""Which class serves what, without importing any of them."""

from __future__ import annotations

import importlib

import pytest

from models.runtimes.tasks.defaults import (
    ARCHITECTURES,
    CLASSIFIER,
    EAR,
    EMBEDDER,
    PAINTER,
    RERANKER,
    TASKS,
    VOICE,
    default_class,
    label_count,
)
from models.runtimes.torch.tasks import TASKS as SERVED
from models.runtimes.torch.tasks import find_task


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"architectures": ["BertModel"]}, EMBEDDER),
        ({"architectures": ["BertForSequenceClassification"], "num_labels": 1}, RERANKER),
        ({"architectures": ["XLMRobertaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}, RERANKER),
        ({"architectures": ["BertForSequenceClassification"]}, CLASSIFIER),
        ({"architectures": ["DebertaV2ForSequenceClassification"], "id2label": {"0": "no", "1": "yes"}}, CLASSIFIER),
        (
            {"architectures": ["BertForSequenceClassification"], "num_labels": 1, "id2label": {"0": 0, "1": 1}},
            CLASSIFIER,
        ),
        ({"architectures": ["CoordinatePainter"]}, PAINTER),
        ({"architectures": ["FormantVoice"]}, VOICE),
        ({"architectures": ["LexiconEar"]}, EAR),
        ({"architectures": ["Unknown", "BertModel"]}, EMBEDDER),
        ({"architectures": ["LlamaForCausalLM"]}, None),
        ({"architectures": []}, None),
        ({"architectures": "BertModel"}, None),
        ({"architectures": [5, None]}, None),
        ({}, None),
    ],
)
def test_a_folder_finds_its_class(config, found):
    assert default_class(config) == found


@pytest.mark.parametrize(
    ("config", "count"),
    [({}, 2), ({"num_labels": 5}, 5), ({"num_labels": "5"}, 2), ({"id2label": {}}, 0), ({"id2label": []}, 2)],
)
def test_labels_are_counted_as_transformers_does(config, count):
    assert label_count(config) == count


@pytest.mark.parametrize("name", sorted({*TASKS, *ARCHITECTURES.values()}))
def test_every_shipped_class_is_there_and_has_the_task_that_is_said(name):
    module, _, attribute = name.partition(":")
    made = getattr(importlib.import_module(module), attribute)()
    assert made.task == TASKS[name]
    assert TASKS[name] in SERVED


@pytest.mark.parametrize("task", SERVED)
def test_every_task_has_something_that_serves_it(task):
    assert callable(find_task(task, "Any"))
