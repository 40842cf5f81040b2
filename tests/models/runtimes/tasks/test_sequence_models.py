"""Rerankers and classifiers on small random models: the numbers of transformers, and the words of config.json."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from models.runtimes.protocol import EngineError
from models.runtimes.tasks.cross_encoder import CrossEncoder
from models.runtimes.tasks.labels import LabelModel
from models.runtimes.tasks.pairs import Pair, PairModel
from models.runtimes.tasks.text_classifier import TextClassifier
from tests.models.runtimes.tasks.serving import load
from tests.models.runtimes.tiny_encoders import make_sequence_classifier

FAMILIES = ["Bert", "Roberta", "DistilBert", "Electra"]


def logits(folder, ids, **more):
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), **more).logits[0]


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_they_are_what_their_endpoints_want(tmp_path):
    reranker = load(CrossEncoder(), make_sequence_classifier(tmp_path / "one", num_labels=1))
    assert isinstance(reranker, PairModel)
    assert reranker.max_tokens == 20
    classifier = load(TextClassifier(), make_sequence_classifier(tmp_path / "three", num_labels=3))
    assert isinstance(classifier, LabelModel)
    assert classifier.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pair_is_scored_as_transformers_does(tmp_path, family):
    folder = make_sequence_classifier(tmp_path, family, num_labels=1)
    (score,) = load(CrossEncoder(), folder).predict([Pair("a b", "c d")])
    typed = family in ("Bert", "Electra")
    more = {"token_type_ids": torch.tensor([[0, 0, 1, 1]])} if typed else {}
    assert score.value == pytest.approx(logits(folder, [2, 3, 4, 5], **more).sigmoid().item(), abs=1e-5)
    assert score.tokens == 4


def test_company_changes_nothing(tmp_path):
    reranker = load(CrossEncoder(), make_sequence_classifier(tmp_path, num_labels=1))
    pairs = [Pair("a", "b c d e " * length) for length in (5, 1, 3, 0)]
    together = reranker.predict(pairs)
    for pair, score in zip(pairs, together, strict=True):
        assert score.value == pytest.approx(reranker.predict([pair])[0].value, abs=1e-5)


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        ({}, torch.sigmoid),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, torch.sigmoid),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, lambda logit: logit),
        ({"sentence_transformers": {"version": "5.0"}}, torch.sigmoid),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, lambda logit: logit),
    ],
)
def test_the_activation_is_that_of_the_folder(tmp_path, config, activation):
    folder = make_sequence_classifier(tmp_path, num_labels=1)
    change_config(folder, **config)
    (score,) = load(CrossEncoder(), folder).predict([Pair("a b", "c")])
    expected = activation(logits(folder, [2, 3, 4], token_type_ids=torch.tensor([[0, 0, 1]]))).item()
    assert score.value == pytest.approx(expected, abs=1e-5)


def test_an_activation_that_it_has_not_is_named(tmp_path):
    folder = make_sequence_classifier(tmp_path, num_labels=1)
    change_config(folder, sentence_transformers={"activation_fn": "torch.nn.modules.activation.Tanh"})
    with pytest.raises(EngineError, match=r"asks for the activation .*Tanh"):
        load(CrossEncoder(), folder)


def test_a_classifier_is_no_reranker(tmp_path):
    with pytest.raises(EngineError, match="has one label, this model has 3"):
        load(CrossEncoder(), make_sequence_classifier(tmp_path, num_labels=3))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_is_classified_as_transformers_does(tmp_path, family):
    folder = make_sequence_classifier(tmp_path, family, num_labels=3)
    (found,) = load(TextClassifier(), folder).predict(["a b c"])
    assert found.probabilities == pytest.approx(logits(folder, [2, 3, 4]).softmax(0).tolist(), abs=1e-5)
    assert found.tokens == 3


@pytest.mark.parametrize(
    ("labels", "problem", "activation"),
    [
        (3, None, lambda row: row.softmax(0)),
        (3, "single_label_classification", lambda row: row.softmax(0)),
        (3, "multi_label_classification", torch.sigmoid),
        (1, None, torch.sigmoid),
        (1, "regression", lambda row: row),
    ],
)
def test_what_a_logit_means_follows_from_the_problem(tmp_path, labels, problem, activation):
    folder = make_sequence_classifier(tmp_path, num_labels=labels, problem_type=problem)
    (found,) = load(TextClassifier(), folder).predict(["a b"])
    assert found.probabilities == pytest.approx(activation(logits(folder, [2, 3])).tolist(), abs=1e-5)


def test_labels_have_the_names_of_the_folder(tmp_path):
    names = {0: "noise", 1: "signal"}
    folder = make_sequence_classifier(tmp_path, id2label=names, label2id={v: k for k, v in names.items()})
    assert load(TextClassifier(), folder).labels == ("noise", "signal")


def test_a_head_that_no_file_has_is_not_made_up(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_sequence_classifier(tmp_path, num_labels=2)
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier")}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EngineError, match=r"incomplete: classifier\.\w+ is missing"):
        load(TextClassifier(), folder)


@pytest.mark.parametrize("model", [CrossEncoder(), TextClassifier()])
def test_its_example_is_an_input(tmp_path, model):
    load(model, make_sequence_classifier(tmp_path, num_labels=1))
    assert len(model.predict([model.example()])) == 1
