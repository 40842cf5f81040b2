"""Reranking and scoring with a model that counts the letters that two texts share."""

from __future__ import annotations

import pytest

from models.runtimes.tasks.pairs import PairModel, Score
from models.runtimes.tasks.rerank_api import MOST_DOCUMENTS, build
from tests.models.runtimes.tasks.serving import error_of, served

pytestmark = pytest.mark.anyio

QUERY = "rails"
DOCUMENTS = ["xyz", "rails", "sail", {"text": "rail", "title": "a track"}]


class SharedLetters:
    task = "rerank"
    max_tokens = 8

    def load(self, device, weights):
        pass

    def predict(self, batch):
        return [Score(len(set(pair.query) & set(pair.document)) / 10, len(pair.document)) for pair in batch]


@pytest.fixture
def client():
    with served(build, SharedLetters(), "shared", "letters") as client:
        yield client


async def rerank(client, **changes):
    body = {"model": "shared", "query": QUERY, "documents": DOCUMENTS, **changes}
    return await client.post("/v1/rerank", json={name: value for name, value in body.items() if value is not ...})


async def score(client, one, other, **changes):
    return await client.post("/v1/score", json={"model": "shared", "text_1": one, "text_2": other, **changes})


def test_it_is_a_pair_model():
    assert isinstance(SharedLetters(), PairModel)


async def test_the_best_come_first_with_the_places_that_they_had(client):
    answer = (await rerank(client)).json()
    assert [(found["index"], found["relevance_score"]) for found in answer["results"]] == [
        (1, 0.5),
        (2, 0.4),
        (3, 0.4),  # as good as the one before it: it came later
        (0, 0.0),
    ]
    assert [found["document"] for found in answer["results"]][2] == {"text": "rail"}
    assert answer["id"].startswith("rerank-")
    assert answer["model"] == "shared"
    assert answer["usage"] == {"prompt_tokens": 16, "total_tokens": 16}


@pytest.mark.parametrize(("top_n", "count"), [(1, 1), (3, 3), (99, 4), (0, 4), (None, 4)])
async def test_only_as_many_as_are_wanted(client, top_n, count):
    answer = (await rerank(client, top_n=top_n)).json()
    assert len(answer["results"]) == count
    assert answer["usage"]["total_tokens"] == 16, "all were read"


async def test_documents_are_left_out_when_nobody_wants_them_back(client):
    answer = (await rerank(client, return_documents=False)).json()
    assert [set(found) for found in answer["results"]] == [{"index", "relevance_score"}] * 4


@pytest.mark.parametrize("path", ["/rerank", "/v2/rerank"])
async def test_under_the_paths_of_others(client, path):
    body = {"model": "letters", "query": QUERY, "documents": DOCUMENTS, "max_chunks_per_doc": 3, "unknown": {}}
    answer = (await client.post(path, json=body)).json()
    assert (answer["model"], len(answer["results"])) == ("letters", 4)


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"query": ...}, "query", "`query` is missing"),
        ({"query": ""}, "query", "must be a text"),
        ({"query": " \n"}, "query", "must be a text"),
        ({"query": ["a"]}, "query", "must be a text"),
        ({"documents": ...}, "documents", "`documents` is missing"),
        ({"documents": []}, "documents", "not empty"),
        ({"documents": "a text"}, "documents", "must be a list"),
        ({"documents": {"text": "a"}}, "documents", "must be a list"),
        ({"documents": ["a", 5]}, "documents", "`documents[1]`"),
        ({"documents": ["a", None]}, "documents", "`documents[1]`"),
        ({"documents": ["a", {"title": "b"}]}, "documents", "`documents[1]`"),
        ({"documents": [{"text": 7}]}, "documents", "`documents[0]`"),
        ({"documents": ["a"] * (MOST_DOCUMENTS + 1)}, "documents", f"at most {MOST_DOCUMENTS}"),
        ({"top_n": -1}, "top_n", "whole number"),
        ({"top_n": 1.5}, "top_n", "whole number"),
        ({"top_n": True}, "top_n", "whole number"),
        ({"top_n": "2"}, "top_n", "whole number"),
        ({"return_documents": "yes"}, "return_documents", "true or false"),
        ({"model": ...}, "model", "must be a string"),
    ],
)
async def test_a_wrong_field_is_named(client, changes, param, said):
    status, named, message = error_of(await rerank(client, **changes))
    assert (status, named) == (400, param)
    assert said in message


async def test_another_model(client):
    assert error_of(await rerank(client, model="other"))[:2] == (404, "model")


@pytest.mark.parametrize(
    ("one", "other", "scores"),
    [
        ("rails", "rail", [0.4]),
        ("rails", ["rail", "xyz"], [0.4, 0.0]),
        (["rails"], ["rail", "xyz"], [0.4, 0.0]),
        (["rails", "xyz"], ["rail", "xyz"], [0.4, 0.3]),
    ],
    ids=["one to one", "one to many", "one in a list to many", "pairwise"],
)
async def test_scores_of_pairs(client, one, other, scores):
    answer = (await score(client, one, other)).json()
    assert [(found["index"], found["score"]) for found in answer["data"]] == list(enumerate(scores))
    assert {found["object"] for found in answer["data"]} == {"score"}
    assert (answer["object"], answer["model"]) == ("list", "shared")


@pytest.mark.parametrize(
    ("one", "other", "param", "said"),
    [
        (None, "a", "text_1", "missing"),
        ("a", None, "text_2", "missing"),
        ([], "a", "text_1", "not empty"),
        ("a", [""], "text_2", "`text_2[0]`"),
        ("a", [1], "text_2", "`text_2[0]`"),
        (["a", "b"], ["a", "b", "c"], "text_1", "has 2 texts, `text_2` has 3"),
        (["a", "b"], "a", "text_1", "send one, or as many"),
    ],
)
async def test_pairs_that_make_no_sense(client, one, other, param, said):
    status, named, message = error_of(await score(client, one, other))
    assert (status, named) == (400, param)
    assert said in message


async def test_it_predicts_as_well(client):
    inputs = [{"query": "rails", "document": "rail"}, {"query": "rails", "document": ""}]
    answer = await client.post("/v1/predict/shared", json={"inputs": inputs})
    assert answer.json()["outputs"] == [{"score": 0.4}, {"score": 0.0}]
    bare = await client.post("/v1/predict/shared", json=inputs[0])
    assert bare.json()["output"] == {"score": 0.4}


@pytest.mark.parametrize(
    "wrong", ["text", {"query": "a"}, {"query": 1, "document": "a"}, {"query": "", "document": "a"}]
)
async def test_what_is_no_pair(client, wrong):
    status, param, message = error_of(await client.post("/v1/predict/shared", json={"inputs": [wrong]}))
    assert (status, param) == (400, "inputs")
    assert message.startswith("`inputs[0]` must be")
