"""A request that a model can never answer is refused before it starts anything, and told where to go."""

from __future__ import annotations

import pytest

from gateway.capabilities import check_capability
from gateway.endpoints import Endpoint, by_path
from gateway.errors import UnsupportedEndpoint
from models.store.records import ModelRoute

TABLE = by_path()
CHAT, RERANK, PREDICT = (TABLE[path] for path in ("/v1/chat/completions", "/v1/rerank", "/v1/predict/{model}"))
PAINTER = ModelRoute(model_id="org/painter", capabilities=("image", "predict"))


def test_what_a_model_can_do_is_let_through() -> None:
    check_capability(PAINTER, TABLE["/v1/images/generations"])
    check_capability(PAINTER, PREDICT)


def test_what_nobody_knows_is_for_the_engine_to_decide() -> None:
    for endpoint in TABLE.values():
        check_capability(ModelRoute(model_id="m"), endpoint)


@pytest.mark.parametrize(("endpoint", "path"), [(CHAT, "/v1/chat/completions"), (RERANK, "/v1/rerank")])
def test_what_it_cannot_do_is_refused_with_what_it_can(endpoint: Endpoint, path: str) -> None:
    with pytest.raises(UnsupportedEndpoint) as refused:
        check_capability(PAINTER, endpoint)
    assert refused.value.message == (
        f"The model 'org/painter' does not support {path};"
        " call it by /v1/images/generations or /v1/predict/org/painter."
    )
    assert (refused.value.status, refused.value.param, refused.value.code) == (400, "model", "unsupported_endpoint")


def test_one_endpoint_of_each_kind_is_named() -> None:
    with pytest.raises(UnsupportedEndpoint, match=r"; call it by /v1/chat/completions or /tokenize\."):
        check_capability(ModelRoute(model_id="m", capabilities=("generate", "tokenize")), PREDICT)
