"""Which endpoint a path means, and under which path its engine has it."""

from __future__ import annotations

import pytest

from gateway.endpoints import ENDPOINTS, BodyKind, Endpoint, Paths, by_path

PATHS = Paths(by_path())


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_every_endpoint_is_found_by_the_path_of_a_model(endpoint: Endpoint) -> None:
    found, model = PATHS.find(endpoint.path_for("org/m")) or (None, None)
    assert found is endpoint
    assert model == ("org/m" if endpoint.model_in_path else None)


@pytest.mark.parametrize(
    "path",
    ["/", "", "/v1", "/v1/chat/completions/", "/v1/predict", "/v1/predict/", "/v1/predictions/m", "/v1/models/m"],
)
def test_other_paths_are_none_of_its_business(path: str) -> None:
    assert PATHS.find(path) is None


@pytest.mark.parametrize(
    ("path", "engine_path"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/classify", "/classify"),
        ("/v1/predict/{model}", "/v1/predict/org/m"),
        ("/v1/tokenize", "/tokenize"),
        ("/v1/detokenize", "/detokenize"),
    ],
)
def test_engines_have_it_under_a_path_of_their_own(path: str, engine_path: str) -> None:
    assert by_path()[path].engine_path_for("org/m") == engine_path


def test_names_are_labels_and_no_two_are_alike() -> None:
    names = [endpoint.name for endpoint in ENDPOINTS]
    assert len(names) == len(set(names))


def test_files_come_in_forms_and_a_socket_has_no_body() -> None:
    forms = [endpoint.path for endpoint in ENDPOINTS if endpoint.body is BodyKind.FORM]
    assert forms == [
        "/v1/images/edits", "/v1/images/variations", "/v1/audio/transcriptions", "/v1/audio/translations"
    ]  # fmt: skip
    assert [(endpoint.path, endpoint.method) for endpoint in ENDPOINTS if endpoint.upgrades] == [
        ("/v1/realtime", "GET")
    ]


def test_only_a_response_may_be_kept() -> None:
    assert [endpoint.path for endpoint in ENDPOINTS if endpoint.stored] == ["/v1/responses"]
